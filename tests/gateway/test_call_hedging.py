"""When a second pod is asked while the first is silent, and what becomes of both."""

import asyncio

import pytest
from hypothesis import given, settings, strategies as st

from headgate_api.snapshot import DeadlineBody, HedgingBody, OutlierBody, RetryBody
from headgate_gateway.calls.adapter import Form
from headgate_gateway.calls.traffic import Pace, Traffic
from headgate_gateway.values import replaced

from .engine import FINE, SHORT, TASK, ground, virtual
from .virtual import Server

AFTER_1S = HedgingBody(seconds=1.0, max_percent=20)
P95 = HedgingBody(percentile=95)


@virtual
async def test_a_silent_pod_is_joined_by_another_and_the_first_to_speak_is_given() -> None:
    async with ground("", FINE) as g:
        await g.earn(AFTER_1S)
        answer = await g.ask(hedging=AFTER_1S)

    assert ("Fine", "ok", 1.1) == (answer.text, answer.code, answer.seconds)
    assert ["hedge_lost", "ok"] == answer.results
    assert [False, True] == [record.hedge for record in answer.attempts]
    assert [None, 1001.1] == [r.first_text and round(r.first_text, 2) for r in answer.attempts]
    assert g.servers[0].stopped == [g.servers[0].asked[0].id]


@virtual
async def test_the_second_one_is_stopped_when_the_first_speaks_after_all() -> None:
    async with ground("1.5 Late 1 end", "") as g:
        await g.earn(AFTER_1S)
        answer = await g.ask(hedging=AFTER_1S)

    assert ("Late", "ok", ["ok", "hedge_lost"]) == (answer.text, answer.code, answer.results)
    assert g.servers[1].stopped == [g.servers[1].asked[0].id]
    assert 1.5 == round((g.servers[1].asked[0].left_at or 0) - answer.began, 2)


@pytest.mark.parametrize(
    "silence", ["", "head", "0.5 a 20 end"], ids=["silent", "begun", "has spoken"]
)
@virtual
async def test_only_what_has_not_spoken_is_joined(silence: str) -> None:
    async with ground(silence, FINE) as g:
        await g.earn(AFTER_1S)
        answer = await g.ask(hedging=AFTER_1S, policy=SHORT)

    assert ([1, 0] if "a" in silence.split() else [1, 1]) == g.hits
    assert ([] if silence else [g.servers[0].asked[0].id]) == g.servers[0].stopped
    assert answer.text in {"a", "Fine"}


@pytest.mark.parametrize("first", ["1.2 cut", "1.2 head cut", "1.2 !503", "1.2 !429", "1.2 error"])
@virtual
async def test_when_one_of_both_fails_the_other_is_waited_for(first: str) -> None:
    async with ground(first, "0.5 Fine end") as g:
        await g.earn(AFTER_1S)
        one = await g.ask(hedging=AFTER_1S)
        assert ("Fine", "ok", 1.5) == (one.text, one.code, one.seconds)
    async with ground("2 Fine end", first.replace("1.2", "0.2")) as g:
        await g.earn(AFTER_1S)
        other = await g.ask(hedging=AFTER_1S)
        assert ("Fine", "ok", 2.0) == (other.text, other.code, other.seconds)


@virtual
async def test_when_both_fail_the_client_hears_of_the_last_failure() -> None:
    async with ground("2 cut", "0.5 !503/9") as g:
        await g.earn(AFTER_1S)
        answer = await g.ask(hedging=AFTER_1S)

    assert ("upstream_lost", 2.0) == (answer.code, answer.seconds)
    assert ["upstream_lost", "upstream_unavailable"] == answer.results


@virtual
async def test_a_request_is_not_asked_three_times_for_a_retry_and_a_hedge() -> None:
    async with ground("0.2 cut", "5 Late end", "5 Late end") as g:
        await g.earn(AFTER_1S)
        answer = await g.ask(hedging=AFTER_1S)

    assert ["upstream_lost", "ok"] == answer.results


@virtual
async def test_nobody_is_joined_where_there_is_only_one_pod() -> None:
    async with ground("2 Late end") as g:
        await g.earn(AFTER_1S)
        assert ["ok"] == (await g.ask(hedging=AFTER_1S)).results


@virtual
async def test_an_ejected_pod_is_not_asked_to_help() -> None:
    async with ground("2 Late end", FINE) as g:
        await g.earn(AFTER_1S)
        g.pods.failed(g.by_name["pod-2"], 1000, OutlierBody(consecutive_failures=1))
        assert ["ok"] == (await g.ask(hedging=AFTER_1S)).results


@virtual
async def test_work_that_nobody_waits_for_is_never_joined_and_earns_no_hedges() -> None:
    later = DeadlineBody(background=True)
    async with ground("2 Late end", FINE) as g:
        for _ in range(10):
            assert ["ok"] == (await g.ask(hedging=AFTER_1S, policy=later)).results
        assert not g.traffic.spend()


@virtual
async def test_too_little_time_is_not_spent_on_a_second_pod() -> None:
    async with ground(*["1.5 Fine end"] * 3) as g:
        await asyncio.gather(*(g.ask(hedging=AFTER_1S) for _ in range(30)))
        before = sum(g.hits)
        await g.earn(AFTER_1S)
        await g.ask(hedging=AFTER_1S, headers={b"x-request-timeout-ms": b"2300"})

    assert 1 == sum(g.hits) - before


@virtual
async def test_after_a_percentile_of_what_was_seen_lately() -> None:
    async with ground([*["1 a end"] * 100, ""], FINE) as g:
        await g.earn(P95)
        g.first()
        other = g.by_name["pod-2"]
        g.pods.gone("chat", "pod-2")
        await asyncio.gather(*(g.ask() for _ in range(100)))
        other.serving = True
        g.pods.place(("chat", "pod-2"), other)
        g.first()
        answer = await g.ask(hedging=P95)

    started = answer.attempts[1].started - answer.began
    assert 1.0 <= started <= 1.2  # it is told to 20 %
    assert "Fine" == answer.text


@virtual
async def test_while_nobody_knows_what_is_late_nobody_is_joined() -> None:
    async with ground("2 Late end", FINE) as g:
        await g.earn(P95)
        assert ["ok"] == (await g.ask(hedging=P95)).results


@virtual
async def test_an_answer_that_is_held_for_its_form_spoke_when_it_was_begun() -> None:
    form = Form(arguments={}, check=lambda value: True, hold=True)
    held = replaced(TASK, form=form)
    async with ground(*["0.1 [1, 7 2] end"] * 2) as g:
        answers = await asyncio.gather(*(g.ask(task=held) for _ in range(20)))
        assert {"[1, 2]"} == {answer.text for answer in answers}
        hurry = await g.ask(headers={b"x-request-timeout-ms": b"5000"}, task=held)

    assert ["deadline_exceeded"] == hurry.results  # it was begun


# The share


@pytest.mark.parametrize("percent", [1, 5, 7, 20])
@pytest.mark.parametrize("together", [1, 10])
@virtual
async def test_no_more_than_its_share_of_all_requests_is_asked_twice(
    percent: int, together: int
) -> None:
    rules = HedgingBody(seconds=0.01, max_percent=percent)
    async with ground(*["0.02 Fine end"] * 3) as g:
        for done in range(together, 401, together):
            await asyncio.gather(*(g.ask(hedging=rules) for _ in range(together)))
            assert sum(g.hits) - done <= done * percent / 100
        assert sum(g.hits) - done >= done * percent / 100 - 2


@given(
    percents=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=400),
)
def test_whatever_the_order_of_requests_and_late_ones_the_share_is_kept(
    percents: list[int], steps: list[tuple[int, bool]]
) -> None:
    """Also where routes with different shares lead to one model: the largest share holds."""
    traffic, hedges = Traffic(), 0
    for number, (route, late) in enumerate(steps, 1):
        traffic.earn(HedgingBody(max_percent=percents[route % len(percents)]))
        hedges += late and traffic.spend()
        assert hedges <= number * max(percents) / 100 + 1e-9


@settings(max_examples=50)
@given(
    seconds=st.lists(st.floats(0.001, 1000), min_size=20, max_size=200),
    percent=st.integers(1, 99),
)
def test_a_percentile_is_told_to_a_fifth(seconds: list[float], percent: int) -> None:
    pace = Pace()
    for one in seconds:
        pace.add(one, 100.0)
    exact = sorted(seconds)[-(-len(seconds) * percent // 100) - 1]
    told = pace.percentile(percent, 100.0)

    assert told is not None
    assert exact <= told * (1 + 1e-9)
    assert told <= exact * 1.2 * (1 + 1e-9)


@pytest.mark.parametrize(("age", "known"), [(0.0, True), (29.0, True), (61.0, False)])
def test_what_was_seen_is_forgotten_after_a_minute(age: float, known: bool) -> None:
    pace = Pace()
    for _ in range(20):
        pace.add(1.0, 1000.0)

    assert known == (pace.percentile(50, 1000.0 + age) is not None)


def test_few_samples_say_nothing() -> None:
    pace = Pace()
    for _ in range(19):
        pace.add(1.0, 5.0)

    assert pace.percentile(50, 5.0) is None


# What it is for


@virtual
async def test_stragglers_lose_their_sting() -> None:
    """Of 1000 requests 1.5 % are late by seconds: the worst wait of 99.9 % falls to a fifth."""
    usual, late = "0.2 a end", "8 a end"
    scripts = [late if number % 67 == 66 else usual for number in range(1000)]
    worst = {}
    for hedging in (None, HedgingBody(percentile=95)):
        async with ground(Server(scripts), Server(scripts[30:]), Server(scripts[60:])) as g:
            waits = []
            for _ in range(100):
                answers = await asyncio.gather(*(g.ask(hedging=hedging) for _ in range(10)))
                waits += [answer.seconds for answer in answers]
            worst[hedging is not None] = sorted(waits)[998]
            assert sum(g.hits) <= 1050

    assert worst[False] >= 5 * worst[True]


RETRY_NEVER = RetryBody(max_attempts=1)


@virtual
async def test_a_hedge_does_not_need_a_retry_to_be_allowed() -> None:
    async with ground("", FINE) as g:
        await g.earn(AFTER_1S)
        assert "ok" == (await g.ask(hedging=AFTER_1S, retries=RETRY_NEVER)).code
