"""Whom a call asks again, when, and how often: in virtual time."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from headgate_api.snapshot import OutlierBody, RetryBody
from headgate_gateway.calls.retry import backoff

from .engine import FINE, SHORT, ground, virtual
from .virtual import Server

COSTLY = RetryBody(retry_on=("FirstTokenTimeout",), backoff_base=0.0)
EVERYTHING = RetryBody(
    retry_on=("Connect", "Reset", "Unavailable", "Overloaded", "FirstTokenTimeout")
)

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
@pytest.mark.parametrize("script", ["a cut", "a", "a error", "a half end"])
@virtual
async def test_nothing_is_tried_again_after_the_first_text(script: str, stream: bool) -> None:
    async with ground(script, FINE) as g:
        answer = await g.ask(stream=stream, policy=SHORT, retries=EVERYTHING)

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

    assert [0.1, 0.2, 0.4, 0.5] == [round(b - a, 3) for a, b in pairwise(at)]


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
async def test_a_try_that_costs_nothing_leaves_the_others() -> None:
    async with ground(["cut", "head cut", FINE]) as g:
        g.rest()
        answer = await g.ask(retries=RetryBody(max_attempts=2))

    assert ["stale", "upstream_lost", "ok"] == answer.results


@virtual
async def test_a_retry_that_fits_no_more_when_its_time_has_come_says_what_had_failed() -> None:
    async with ground("!503/6") as g:
        call = g.call(policy=SHORT)
        for _ in range(20):  # others have seen how slow the model has become
            asyncio.get_running_loop().call_later(3, g.traffic.first_text.add, 6.0, 1003.0)
        answer = await g.read(call)

    assert ("upstream_unavailable", 6.0) == (answer.code, answer.seconds)


@virtual
async def test_a_pod_that_fails_on_a_new_connection_too_has_failed() -> None:
    async with ground("cut") as g:
        g.rest()
        answer = await g.ask(retries=RetryBody(max_attempts=1))

    assert ["stale", "upstream_lost"] == answer.results


@pytest.mark.parametrize("script", ["head cut", "2 cut"], ids=["in an answer", "after a while"])
@virtual
async def test_a_rested_connection_that_breaks_later_was_not_stale(script: str) -> None:
    async with ground(script) as g:
        g.rest()
        answer = await g.ask(retries=RetryBody(max_attempts=1))

    assert ["upstream_lost"] == answer.results


# Other pods, other variants


@pytest.mark.parametrize("cohorts", [("one", "one", "two"), ("one", "two", "one")])
@virtual
async def test_after_a_costly_failure_another_variant_is_asked(cohorts: tuple[str, ...]) -> None:
    async with ground("", FINE, FINE, cohorts=cohorts) as g:
        answer = await g.ask(policy=SHORT, retries=COSTLY)

    assert ["one", "two"] == [record.cohort.name for record in answer.attempts]
    assert ("ok", 4.1) == (answer.code, answer.seconds)


@virtual
async def test_after_a_costly_failure_another_pod_will_do_and_the_same_one_will_not() -> None:
    async with ground("", FINE) as g:
        assert "ok" == (await g.ask(policy=SHORT, retries=COSTLY)).code
    async with ground("") as g:
        assert "upstream_timeout" == (await g.ask(policy=SHORT, retries=COSTLY)).code
        assert [1] == g.hits


# The budget: what a backend that is down may cost


async def dead(clients: int, requests: int, script: str, rules: RetryBody, gap: float) -> float:
    """Attempts per request of a model that is down, with so many requests in work at any time."""
    async with ground(script, script, script) as g:
        loop = asyncio.get_running_loop()
        done = 0

        async def client() -> None:
            nonlocal done
            while done < requests:
                done += 1
                await g.ask(retries=rules)
                await asyncio.sleep(gap)

        began = loop.time()
        await asyncio.gather(*(client() for _ in range(clients)))
        assert loop.time() > began
        return sum(g.hits) / len(g.calls)


@pytest.mark.parametrize("tries", [2, 5])
@pytest.mark.parametrize("clients", [32, 39, 100])
@pytest.mark.parametrize("script", ["1 cut", "0.05 cut", "!503", "0.3 !429"])
@virtual
async def test_a_dead_backend_costs_at_most_a_quarter_more(
    script: str, clients: int, tries: int
) -> None:
    rules = RetryBody(max_attempts=tries)
    assert 1 < await dead(clients, clients * 5, script, rules, 0.001) <= 1.25


@pytest.mark.parametrize("clients", [32, 100])
@virtual
async def test_requests_that_come_whatever_happens_cost_no_more(clients: int) -> None:
    """So many begin in each second, and each attempt takes a second: an open loop."""
    async with ground(*["1 head cut"] * 4) as g:

        async def one(number: int) -> None:
            await asyncio.sleep(number / clients)
            await g.ask()

        await asyncio.gather(*(one(number) for number in range(clients * 10)))
        assert 1.1 < sum(g.hits) / len(g.calls) <= 1.25


@virtual
async def test_a_rush_at_once_costs_no_more() -> None:
    async with ground(*["cut"] * 3) as g:
        await asyncio.gather(*(g.ask(retries=RetryBody(max_attempts=2)) for _ in range(32)))
        assert 32 + 6 == sum(g.hits)


@virtual
async def test_few_requests_may_all_be_tried_again_but_for_three_at_once() -> None:
    async with ground("1 cut", "1 cut") as g:
        await asyncio.gather(*(g.ask() for _ in range(10)))
        assert 10 + 3 == sum(g.hits)


@virtual
async def test_a_retry_that_speaks_makes_room_for_others() -> None:
    """Long answers that were once retried would else keep everybody from it."""
    rules = RetryBody(min_concurrent=1, budget_percent=0)
    async with ground(Server(["cut"]), Server(["0.1 a 100 b end"])) as g:
        first = asyncio.create_task(g.ask(retries=rules))
        await asyncio.sleep(1.5)
        second = await g.ask(retries=rules, headers={b"x-request-timeout-ms": b"5000"})
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    assert ["upstream_lost", "deadline_exceeded"] == second.results


@given(
    base=st.floats(0.001, 10.0),
    most=st.floats(0.0, 60.0),
    retry=st.integers(1, 100),
    chance=st.floats(0.0, 1.0, exclude_max=True),
)
def test_a_pause_is_somewhere_below_its_ceiling(
    base: float, most: float, retry: int, chance: float
) -> None:
    rules = RetryBody(backoff_base=base, backoff_max=most)
    ceiling = min(most, base * 2 ** (retry - 1))

    assert 0 <= backoff(rules, retry, chance) <= ceiling
    assert 0 == backoff(rules, retry, 0.0)
    assert pytest.approx(ceiling / 2) == backoff(rules, retry, 0.5)


# Ejection


THREE = OutlierBody(consecutive_failures=3, base_ejection=10.0, max_ejection_percent=50)
ALL = OutlierBody(consecutive_failures=3, base_ejection=10.0, max_ejection_percent=100)
ONE_TRY = RetryBody(max_attempts=1)


@virtual
async def test_a_pod_that_fails_in_a_row_is_ejected_longer_each_time() -> None:
    async with ground("cut", "!503", "!503", "!503") as g:
        ejected = []
        for _ in range(8):
            for _ in range(3):
                g.pods.failed(g.pod, asyncio.get_running_loop().time(), THREE)
            seconds = g.pod.ejected_until - asyncio.get_running_loop().time()
            ejected.append(round(seconds))
            await asyncio.sleep(seconds)

    assert [10, 20, 40, 80, 160, 300, 300, 300] == ejected


@virtual
async def test_failures_count_in_a_row() -> None:
    async with ground(["!503", "!503", FINE, "!503", "!503", FINE, "!503", "!503", "!503"]) as g:
        ejected = [
            (await g.ask(outliers=ALL, retries=ONE_TRY)).attempts[0].ejected for _ in range(9)
        ]

    assert [False] * 8 + [True] == ejected


@virtual
async def test_many_requests_in_work_on_a_dying_pod_eject_it_once() -> None:
    async with ground("head 1 cut", "5 a end", "5 a end", "5 a end", "5 a end") as g:
        answers = await asyncio.gather(
            *(g.ask(outliers=THREE, retries=ONE_TRY) for _ in range(100))
        )
        left = g.pod.ejected_until - 1001

    assert 1 == sum(record.ejected for answer in answers for record in answer.attempts)
    assert 10 == round(left)


@pytest.mark.parametrize(
    ("percent", "pods", "most"), [(50, 1, 0), (50, 2, 1), (50, 5, 2), (100, 3, 3), (0, 4, 0)]
)
@virtual
async def test_no_more_pods_are_ejected_than_their_share(
    percent: int, pods: int, most: int
) -> None:
    rules = OutlierBody(consecutive_failures=1, base_ejection=10.0, max_ejection_percent=percent)
    async with ground(*["cut"] * pods) as g:
        for _ in range(20):
            await g.ask(outliers=rules, retries=ONE_TRY)
        now = asyncio.get_running_loop().time()
        assert most == sum(now < pod.ejected_until for pod in g.by_name.values())


@virtual
async def test_an_ejected_pod_is_asked_when_there_is_no_other() -> None:
    async with ground(["cut", FINE]) as g:
        rules = OutlierBody(consecutive_failures=1, max_ejection_percent=100)
        await g.ask(outliers=rules, retries=ONE_TRY)
        answer = await g.ask(outliers=rules)

    assert "ok" == answer.code


@virtual
async def test_a_stream_that_began_before_does_not_lift_an_ejection() -> None:
    async with ground("1 a 1 b end", FINE) as g:
        long = asyncio.create_task(g.ask())
        await asyncio.sleep(0.5)
        for _ in range(3):
            g.pods.failed(g.pod, asyncio.get_running_loop().time(), THREE)
        await long
        after = await g.fill(4)
        await asyncio.sleep(10)
        for _ in range(3):
            g.pods.failed(g.pod, asyncio.get_running_loop().time(), THREE)
        left = g.pod.ejected_until - asyncio.get_running_loop().time()

    assert {"pod-2"} == {record.pod for answer in after for record in answer.attempts}
    assert 20 == round(left)  # the second time in a row


@pytest.mark.parametrize(("script", "blamed"), [("!429", False), ("!400", False), ("!503", True)])
@virtual
async def test_a_pod_is_not_blamed_for_a_full_queue_or_a_bad_request(
    script: str, blamed: bool
) -> None:
    async with ground(script, runtime="trtllm-serve") as g:
        for _ in range(10):
            await g.ask(outliers=THREE, retries=ONE_TRY)
        aside = g.pod.aside_until

    assert blamed == (aside > 0)
