"""Whom a call asks, when it asks again and when it gives up: in virtual time, to the millisecond."""

import asyncio
from math import inf

import pytest

from headgate_api.snapshot import DeadlineBody, HedgingBody, OutlierBody, RetryBody
from headgate_gateway.refusals import Code, Refusal

from .engine import Ground, ground, virtual
from .virtual import Server

DRAINING = Refusal(Code.GATEWAY_DRAINING, 503, "This gateway stops.", retry_after=1)
SHORT = DeadlineBody(total=10.0, stream=10.0, first_segment=4.0, idle_token=2.0, reserve=0.5)
AT_ONCE = RetryBody(backoff_base=0.0, backoff_max=0.0)
AFTER_1S = HedgingBody(seconds=1.0, max_percent=20)
FINE = "0.1 Fine end"


@pytest.fixture(autouse=True)
def middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pause is half of what it may be."""
    monkeypatch.setattr("random.random", lambda: 0.5)


@virtual
async def test_text_comes_as_it_is_written() -> None:
    async with ground("0.2 Good 0.1 morning end") as g:
        answer = await g.ask()

    assert ("Good morning", "ok", 0.3) == (answer.text, answer.code, answer.seconds)
    assert ["ok"] == answer.results


# One pod, one try: how each misbehaviour ends, when, and what the pod is told.

#             script               text     code                   s     stopped
ALONE = {
    "silent": ("", "", "upstream_timeout", 4.0, True),
    "silent after the head": ("head", "", "upstream_timeout", 4.0, False),
    "silent after text": ("1 Good", "Good", "upstream_timeout", 3.0, False),
    "drips before the first text": ("1 half 1 half 3 Late end", "", "upstream_timeout", 4.0, False),
    "slow but never idle": ("1 a 1.9 b 1.9 c 1.9 d 1.9 e 9 f", "a b c d e", "deadline_exceeded", 9.5, False),
    "cut before the head": ("0.3 cut", "", "upstream_lost", 0.3, False),
    "cut after the head": ("head 0.3 cut", "", "upstream_lost", 0.3, False),
    "cut after text": ("a b 0.3 cut", "a b", "upstream_lost", 0.3, False),
    "cut inside an event": ("a half cut", "a", "upstream_lost", 0.0, False),
    "ends inside an event": ("a half end", "a", "upstream_invalid", 0.0, False),
    "ends without a word": ("end", "", "upstream_lost", 0.0, False),
    "an error event": ("a error", "a", "upstream_error", 0.0, False),
    "nonsense": ("a nonsense", "a", "upstream_invalid", 0.0, False),
    "500": ("!500", "", "upstream_error", 0.0, False),
    "503": ("!503", "", "upstream_unavailable", 0.0, False),
    "429": ("!429", "", "upstream_overloaded", 0.0, False),
}  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("case", ALONE)
@virtual
async def test_one_try_ends_in_one_way(case: str, stream: bool) -> None:
    script, text, code, seconds, stopped = ALONE[case]
    async with ground(script) as g:
        answer = await g.ask(stream=stream, policy=SHORT, retries=RetryBody(max_attempts=1))

    assert (text, code, seconds) == (answer.text, answer.code, answer.seconds)
    assert [code] == answer.results
    assert ([g.asked[0].id] if stopped else []) == g.servers[0].stopped


REFUSED, DEAF, SLOW = Server([FINE], dials=[None]), Server([FINE], dials=[inf]), 1.9


@pytest.mark.parametrize(
    ("dial", "code", "seconds"),
    [(None, "upstream_lost", 0.0), (inf, "upstream_lost", 2.0), (1.9, "ok", 2.0)],
    ids=["refused", "no answer", "slow"],
)
@virtual
async def test_connecting_has_its_own_time(dial: float | None, code: str, seconds: float) -> None:
    async with ground(Server([FINE], dials=[dial])) as g:
        answer = await g.ask(retries=RetryBody(max_attempts=1))

    assert (code, seconds) == (answer.code, answer.seconds)


# Retries


RETRIED = {
    # script of the first pod, what is asked next
    "refused connection": Server([FINE], dials=[None]),
    "reset": Server(["cut"]),
    "cut after the head": Server(["head cut"]),
    "unavailable": Server(["!503"]),
    "full": Server(["!429"]),
    "empty answer": Server(["end"]),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("case", RETRIED)
@virtual
async def test_what_fails_unseen_is_tried_again_on_another_pod(case: str, stream: bool) -> None:
    first = RETRIED[case]
    async with ground(Server(first.scripts, first.dials), FINE) as g:
        answer = await g.ask(stream=stream)

    assert ("Fine", "ok", 0.15) == (answer.text, answer.code, answer.seconds)  # half of 100 ms
    assert ["pod-1", "pod-2"] == [record.pod for record in answer.attempts]


@pytest.mark.parametrize("script", ["!500", "error", "nonsense", "half end", "!400", "!404"])
@virtual
async def test_what_would_fail_anywhere_is_not_tried_again(script: str) -> None:
    async with ground(script, FINE) as g:
        answer = await g.ask(policy=SHORT)

    assert [1, 0] == g.hits
    assert answer.code.startswith("upstream_")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", ["a cut", "a !", "a error", "a half end"])
@virtual
async def test_nothing_is_tried_again_after_the_first_text(script: str, stream: bool) -> None:
    everything = RetryBody(
        retry_on=("Connect", "Reset", "Unavailable", "Overloaded", "FirstTokenTimeout")
    )
    async with ground(script.replace("!", ""), FINE) as g:
        answer = await g.ask(stream=stream, policy=SHORT, retries=everything)

    assert ("a", [1, 0]) == (answer.text, g.hits)
    assert "ok" != answer.code


@pytest.mark.parametrize("most", [1, 2, 3, 5])
@virtual
async def test_there_are_never_more_tries_than_the_policy_says(most: int) -> None:
    async with ground(*["cut"] * 6) as g:
        answer = await g.ask(retries=RetryBody(max_attempts=most))

    assert (most, "upstream_lost") == (sum(g.hits), answer.code)
    assert 1 == max(g.hits)  # each time another pod


@virtual
async def test_pauses_double_up_to_a_ceiling() -> None:
    rules = RetryBody(max_attempts=5, backoff_base=0.2, backoff_max=1.0)
    async with ground("cut") as g:
        await g.ask(retries=rules)
    at = [one.at - 1000 for one in g.asked]

    assert [0.1, 0.2, 0.4, 0.5] == [round(b - a, 3) for a, b in zip(at, at[1:], strict=False)]


@virtual
async def test_the_only_pod_is_asked_again_after_the_time_that_it_names() -> None:
    async with ground(["!503/3", FINE]) as g:
        answer = await g.ask()

    assert ("ok", 3.1) == (answer.code, answer.seconds)


@virtual
async def test_the_time_that_one_pod_names_does_not_hold_for_another() -> None:
    async with ground("!429/3", FINE) as g:
        answer = await g.ask()

    assert ("ok", 0.15) == (answer.code, answer.seconds)


@virtual
async def test_a_time_to_wait_that_does_not_fit_is_handed_to_the_client() -> None:
    async with ground("!429/20") as g:
        answer = await g.ask(policy=SHORT)

    assert ("upstream_overloaded", 0.0, [1]) == (answer.code, answer.seconds, g.hits)
    assert answer.refusal is not None
    assert 20 == answer.refusal.retry_after


@virtual
async def test_a_pod_that_went_away_meanwhile_is_not_asked_again() -> None:
    async with ground("!503/3") as g:
        call = g.call()
        asyncio.get_running_loop().call_later(1, g.pods.gone, "chat", "pod-1")
        answer = await g.read(call)

    assert ("upstream_unavailable", 3.0, [1]) == (answer.code, answer.seconds, g.hits)


@virtual
async def test_a_pod_that_came_meanwhile_is_asked() -> None:
    async with ground(Server(["cut"]), Server([FINE])) as g:
        late = g.by_name["pod-2"]
        g.pods.gone("chat", "pod-2")
        late.serving = True
        call = g.call(retries=RetryBody(backoff_base=2.0))
        asyncio.get_running_loop().call_later(0.5, g.pods.place, ("chat", "pod-2"), late)
        answer = await g.read(call)

    assert ("ok", [1, 1]) == (answer.code, g.hits)


@virtual
async def test_without_a_pod_the_answer_is_that_none_is_ready() -> None:
    async with ground(FINE) as g:
        g.pods.gone("chat", "pod-1")
        answer = await g.ask()

    assert ("model_not_ready", 0.0, []) == (answer.code, answer.seconds, answer.attempts)


# Connections that had rested


@virtual
async def test_a_stale_connection_costs_no_try_once() -> None:
    async with ground(["cut", FINE]) as g:
        g.rest()
        answer = await g.ask(retries=RetryBody(max_attempts=1))

    assert ("ok", 0.1, ["stale", "ok"]) == (answer.code, answer.seconds, answer.results)


@virtual
async def test_a_pod_that_fails_on_a_new_connection_too_has_failed() -> None:
    async with ground("cut") as g:
        g.rest()
        answer = await g.ask(retries=RetryBody(max_attempts=1))

    assert ["stale", "upstream_lost"] == answer.results


@virtual
async def test_a_rested_connection_that_breaks_within_an_answer_was_not_stale() -> None:
    async with ground("head cut") as g:
        g.rest()
        answer = await g.ask(retries=RetryBody(max_attempts=1))

    assert ["upstream_lost"] == answer.results


# Other pods, other variants


COSTLY = RetryBody(retry_on=("FirstTokenTimeout",), backoff_base=0.0)


@virtual
async def test_after_a_costly_failure_another_variant_is_asked() -> None:
    async with ground("", FINE, FINE, cohorts=("one", "one", "two")) as g:
        answer = await g.ask(policy=SHORT, retries=COSTLY)

    assert ["pod-1", "pod-3"] == [record.pod for record in answer.attempts]
    assert ("ok", 4.1) == (answer.code, answer.seconds)


@virtual
async def test_after_a_costly_failure_another_pod_will_do_and_the_same_one_will_not() -> None:
    async with ground("", FINE) as g:
        assert "ok" == (await g.ask(policy=SHORT, retries=COSTLY)).code
    async with ground("") as g:
        assert "upstream_timeout" == (await g.ask(policy=SHORT, retries=COSTLY)).code
        assert [1] == g.hits


# Deadlines


@virtual
async def test_the_client_hears_of_its_deadline_before_it_is_over() -> None:
    async with ground("") as g:
        answer = await g.ask(headers={b"x-request-timeout-ms": b"1000"})

    assert ("deadline_exceeded", 0.9) == (answer.code, answer.seconds)
    assert [answer.timeline.attempts[0].result] == ["deadline_exceeded"]
    assert [g.asked[0].id] == g.servers[0].stopped


@pytest.mark.parametrize("pause", [0.0, 0.7])
@virtual
async def test_a_model_that_never_stops_talking_is_stopped_when_the_time_is_over(
    pause: float,
) -> None:
    """Also where the client is the slow one, so that there is always more to read."""
    async with ground("a 0.01 " * 2000) as g:
        answer = await g.read(g.call(policy=SHORT), pause)

    assert "deadline_exceeded" == answer.code
    assert 9.5 <= answer.seconds <= 9.51 + pause
    assert 9.5 == round((g.asked[0].left_at or inf) - g.asked[0].at, 2)


@virtual
async def test_a_client_that_does_not_read_holds_no_slot_beyond_its_deadline() -> None:
    async with ground("a 1 b 1 c 1 d") as g:
        answer = await g.read(g.call(policy=SHORT), 60)

    assert "deadline_exceeded" == answer.code
    assert 9.5 == round((g.asked[0].left_at or inf) - g.asked[0].at, 2)


@virtual
async def test_a_deadline_holds_while_a_retry_waits() -> None:
    async with ground("!503/3") as g:
        call = g.call(policy=SHORT, retries=RetryBody(max_attempts=5))
        answer = await g.read(call)

    assert [0.0, 3.0, 6.0, 9.0] == [round(one.at - g.asked[0].at, 3) for one in g.asked]
    assert ("upstream_unavailable", 9.0) == (answer.code, answer.seconds)


@virtual
async def test_each_pod_is_told_what_is_left() -> None:
    async with ground("2 cut", FINE) as g:
        await g.ask(policy=SHORT)

    told = [line for one in g.asked for line in one.head.split("\r\n") if "timeout" in line]
    assert ["x-request-timeout-ms: 9500", "x-request-timeout-ms: 7450"] == told


@pytest.mark.parametrize("stream", [True, False])
@virtual
async def test_what_usually_takes_longer_is_not_begun(stream: bool) -> None:
    """A plain answer needs all of it, a stream only the first text."""
    async with ground("1 a 1 b end") as g:
        await g.fill(20, stream=stream)
        answers = [
            await g.ask(stream=stream, headers={b"x-request-timeout-ms": b"%d" % ms})
            for ms in (1000, 1500, 2000, 2800)
        ]
    codes = [answer.code for answer in answers]
    late = "deadline_exceeded"
    assert ([late] * 1 + [late, late, "ok"] if stream else [late] * 3 + ["ok"]) == codes
    begun = [len(answer.attempts) for answer in answers]
    assert ([0, 1, 1, 1] if stream else [0, 0, 0, 1]) == begun


@virtual
async def test_what_was_slow_is_tried_again_after_a_minute() -> None:
    async with ground(["5 a end"] * 20 + ["0.1 a end"]) as g:
        await asyncio.gather(*(g.ask() for _ in range(20)))
        hurry = {b"x-request-timeout-ms": b"2000"}
        assert "deadline_exceeded" == (await g.ask(headers=hurry)).code
        await asyncio.sleep(61)
        assert "ok" == (await g.ask(headers=hurry)).code


@virtual
async def test_a_retry_that_does_not_fit_is_not_waited_for() -> None:
    async with ground([*["1 a end"] * 20, "head 1 cut"]) as g:
        await g.fill(20)
        answer = await g.ask(headers={b"x-request-timeout-ms": b"2000"})

    assert ("upstream_lost", 1.0) == (answer.code, answer.seconds)


# Signs of life


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({}, 1),
        ({b"x-stainless-read-timeout": b"6"}, 10),
        ({b"x-stainless-read-timeout": b"600"}, 1),
    ],
)
@virtual
async def test_a_waiting_stream_shows_signs_of_life(
    headers: dict[bytes, bytes], waits: int
) -> None:
    async with ground("10 a 11 b end") as g:
        policy = DeadlineBody(stream=600.0, first_segment=30.0, idle_token=15.0)
        answer = await g.ask(policy=policy, headers=headers)

    assert ("a b", waits - 1) == (answer.text, answer.waits) if waits == 1 else answer.waits
