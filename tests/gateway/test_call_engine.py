"""How a call ends, and when: in virtual time."""

import asyncio
from math import inf

import pytest

from headgate_api.snapshot import DeadlineBody, RetryBody

from .engine import FINE, SHORT, ground, virtual
from .virtual import Server


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
    "too slow": ("1 a 1.9 b 1.9 c 1.9 d 1.9 e 9 f", "a b c d e", "deadline_exceeded", 9.5, False),
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

    assert [9500, 7450] == [one.left_ms for one in g.asked]


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
