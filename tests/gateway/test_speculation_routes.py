"""Routes that choose between pods that guess ahead and plain ones, in virtual time."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec import structs

from headgate_api.snapshot import (
    GenerationBody,
    SpeculationBody,
    StickinessBody,
)
from headgate_gateway.edge.embedding_request import read_embedding_request
from headgate_gateway.refusals import PASS
from headgate_gateway.routing.router import settle
from headgate_gateway.routing.speculation import ROUND, TRIAL
from headgate_gateway.routing.stage import Stage

from .conftest import cohort, guessing, model
from .engine import virtual
from .twins import FAST, GUESSING, PLAIN, SLOW, Twins, speculation, writing

AUTO = SpeculationBody()
TOOLS = [{"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}]
LONG = [{"role": "user", "content": "word " * 400}]


def decided(request: Any) -> tuple[str, str, str]:
    found = speculation(request)
    assert found is not None
    return found.pool, found.outcome, found.reason


# Which requests


@pytest.mark.parametrize(
    ("said", "more", "reason"),
    [
        ({}, {}, "share"),
        ({"percent": 0}, {}, "rest"),
        ({"mode": "Never"}, {}, "never"),
        ({}, {"tools": TOOLS}, "tools"),
        ({}, {"tools": TOOLS, "tool_choice": "none"}, "share"),
        ({"tool_calls": "Use"}, {"tools": TOOLS}, "share"),
        ({"max_temperature": 0.5}, {"temperature": 0.5}, "share"),
        ({"max_temperature": 0.5}, {"temperature": 0.6}, "temperature"),
        ({"max_temperature": 0.5}, {}, "temperature"),  # as OpenAI's servers have 1 then
        ({"max_input_tokens": 100}, {}, "share"),
        ({"max_input_tokens": 100}, {"messages": LONG}, "input"),
    ],
)
def test_a_route_says_for_which_requests_is_guessed(
    said: dict[str, Any], more: dict[str, Any], reason: str
) -> None:
    twins = Twins(SpeculationBody(**said))
    pool = "speculative" if reason == "share" else "plain"

    assert (pool, pool, reason) == decided(twins.decide(session="in-the-share", **more))


def test_a_default_and_a_cap_settle_the_temperature_that_counts() -> None:
    said = SpeculationBody(max_temperature=0.5)
    default = Twins(said, generation=GenerationBody(temperature=0.2))
    capped = Twins(said, generation=GenerationBody(cap_temperature=0.5))

    assert "share" == decided(default.decide(session="in-the-share"))[2]
    assert "share" == decided(capped.decide(session="in-the-share", temperature=1.5))[2]


def test_nothing_is_guessed_for_embeddings() -> None:
    asked = read_embedding_request(b'{"model": "assistant", "input": "Hello"}')

    assert "embeddings" == decided(Twins(AUTO).decide(asked=asked))[2]  # type: ignore[arg-type]


def test_a_route_that_says_nothing_takes_both_alike() -> None:
    request = Twins(None).decide()

    assert speculation(request) is None
    assert (["guessing", "plain"], None) == (list(request.cohorts), request.prefers)


# Which pods


@pytest.mark.parametrize(
    ("said", "cohorts", "ready", "first", "found"),
    [
        ({}, (GUESSING, PLAIN), 2, "guessing", ("speculative", "speculative", "share")),
        ({"percent": 0}, (GUESSING, PLAIN), 2, "plain", ("plain", "plain", "rest")),
        ({"percent": 0}, (GUESSING, PLAIN), 1, "guessing", ("speculative", "not_ready", "rest")),
        ({"mode": "Never"}, (GUESSING,), 1, "guessing", ("speculative", "not_ready", "never")),
        ({}, (PLAIN, GUESSING), 1, "plain", ("plain", "not_ready", "share")),
        ({}, (PLAIN,), 1, None, ("plain", "plain", "absent")),
        ({"mode": "Shadow"}, (GUESSING, PLAIN), 2, "plain", ("plain", "shadow", "share")),
        (
            {"mode": "Shadow", "percent": 0},
            (PLAIN, GUESSING),
            2,
            "plain",
            ("plain", "plain", "rest"),
        ),
    ],
)
def test_one_pool_goes_first_and_the_other_one_serves_where_it_cannot(
    said: dict[str, Any],
    cohorts: tuple[Any, ...],
    ready: int,
    first: str | None,
    found: tuple[str, str, str],
) -> None:
    """The first `ready` of the cohorts have a pod."""
    twins = Twins(SpeculationBody(**said), [FAST] * ready, cohorts=cohorts)
    request = twins.decide(session="in-the-share")

    assert found == decided(request)
    assert first == (None if request.prefers is None else next(iter(request.prefers.cohorts)))


LISTED = tuple(
    structs.replace(each, variant=f"v{number}")
    for number, each in enumerate((cohort("best"), guessing("twin"), cohort("small")))
)


@pytest.mark.parametrize(
    ("percent", "variants", "first"),
    [
        (100, ("v0", "v1", "v2"), ["v1"]),
        (0, ("v0", "v1", "v2"), ["v0"]),
        (0, ("v2", "v1", "v0"), ["v2"]),
        (0, ("v1", "v2"), ["v2"]),
        (0, (), ["v0", "v2"]),
    ],
)
def test_each_pool_keeps_the_order_of_the_variants_that_the_target_lists(
    percent: int, variants: tuple[str, ...], first: list[str]
) -> None:
    twins = Twins(SpeculationBody(percent=percent), [SLOW] * 3, cohorts=LISTED, variants=variants)
    request = twins.decide(session="in-the-share")

    assert request.prefers is not None
    assert first == [request.cohorts[name].variant for name in request.prefers.cohorts]
    assert request.decision is not None
    assert tuple(first) == request.decision.stages[0].variants


def test_what_one_route_prefers_is_nothing_to_the_next_one() -> None:
    twins = Twins(AUTO)
    request = twins.decide(session="in-the-share")
    preferred = request.prefers
    assert request.route is not None
    step = request.route.steps["all"]
    silent = replace(step, rule=structs.replace(step.rule, speculative=None))
    models = twins.tables.space("chat").objects

    assert PASS is settle(request, silent, Stage(route="all"), models, twins.router.targets)
    assert preferred is not None
    assert (["guessing", "plain"], None) == (list(request.cohorts), request.prefers)


# Shares


def pools(twins: Twins, sessions: int, **more: Any) -> list[str]:
    return [decided(twins.decide(session=f"session {n}", **more))[0] for n in range(sessions)]


@settings(max_examples=10)
@given(st.integers(0, 100))
def test_the_share_of_sessions_is_what_the_route_says(percent: int) -> None:
    found = Counter(pools(Twins(SpeculationBody(percent=percent)), 1000))
    expected = min(percent, 100 - TRIAL)

    assert abs(found["speculative"] / 10 - expected) < 6  # four standard deviations at most


def test_a_session_stays_on_every_gateway_and_a_larger_share_takes_no_session_away() -> None:
    half, again, more = (Twins(SpeculationBody(percent=p)) for p in (50, 50, 70))
    first = pools(half, 300)

    assert first == pools(half, 300) == pools(again, 300)
    both = zip(first, pools(more, 300), strict=True)
    assert ("speculative", "plain") not in set(both)


def test_without_a_session_each_request_is_dealt_by_chance() -> None:
    twins = Twins(SpeculationBody(percent=50), stickiness=StickinessBody(key="None"))
    found = Counter(decided(twins.decide())[0] for _ in range(1000))

    assert abs(found["speculative"] - 500) < 64


# Time goes by


async def asking(twins: Twins, count: int, begin: int = 0) -> Counter[str]:
    """Ask for so many sessions, one after the other, and count the decisions."""
    reasons: Counter[str] = Counter()
    for number in range(begin, begin + count):
        request = twins.decide(session=f"session {number}")
        reasons[decided(request)[2]] += 1
        await twins.read(request)
    return reasons


@virtual
async def test_guessing_that_helps_goes_on_and_its_numbers_are_known() -> None:
    twins = Twins(SpeculationBody(percent=60))
    async with twins.ground:
        found = await asking(twins, 100)
        [judged] = twins.speculating.judged()
        told = speculation(twins.decide())

    assert {"share", "rest"} == set(found)
    assert ("chat", "front/all", "llama", "bf16-eagle3") == judged.place
    assert (True, 75) == (judged.worth, judged.acceptance)
    assert judged.benefit == pytest.approx(50, abs=0.1)
    assert told is not None
    assert (75, 50) == (told.acceptance_percent, told.benefit_percent)


BAD = writing(9, 0.01, drafts=(20, 4))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(BAD, "acceptance"), (writing(9, 0.03, drafts=(8, 6)), "benefit")],
)
@virtual
async def test_guessing_that_does_not_help_is_given_up_tried_and_taken_up_again(
    bad: str, reason: str
) -> None:
    twins = Twins(SpeculationBody(percent=50), [[*[bad] * ROUND, FAST], SLOW])
    async with twins.ground:
        before = await asking(twins, 2 * ROUND + 20)
        given_up = await asking(twins, 400, begin=1000)
        back = await asking(twins, 600, begin=2000)

    assert ROUND == before["share"]
    assert before["rest"] > 0
    assert {reason, "trial"} == set(given_up)
    assert 400 * TRIAL / 100 / 3 < given_up["trial"] < ROUND
    assert ROUND == (before + given_up + back)["trial"]
    assert back["share"] > 100


@virtual
async def test_busy_pods_that_guess_are_not_compared_with_idle_plain_ones() -> None:
    """A pod with 8 requests is slower for that, and nothing says that guessing slows it down."""
    twins = Twins(SpeculationBody(percent=50), [writing(9, 0.05, drafts=(8, 6)), SLOW])
    async with twins.ground:
        requests = [twins.decide(session=f"session {n}") for n in range(400)]
        guessed = [each for each in requests if decided(each)[0] == "speculative"]
        for each in requests:
            if decided(each)[0] == "plain":
                await twins.read(each)
        for n in range(0, 6 * 16, 16):
            busy = [twins.read(each) for each in guessed[n : n + 16]]
            await asyncio.gather(*busy)
        [judged] = twins.speculating.judged()

    assert (True, 75, None) == (judged.worth, judged.acceptance, judged.benefit)


@pytest.mark.parametrize(
    ("guessing", "plain", "reason"),
    [(7, 0, "share"), (8, 0, "busy"), (15, 1, "share"), (16, 1, "busy")],
)
def test_a_request_passes_by_pods_that_guess_where_these_are_far_busier(
    guessing: int, plain: int, reason: str
) -> None:
    twins = Twins(AUTO)
    twins.ground.by_name["pod-1"].in_flight = guessing
    twins.ground.by_name["pod-2"].in_flight = plain

    assert reason == decided(twins.decide(session="in-the-share"))[2]


@virtual
async def test_no_crowd_forms_before_the_only_pod_that_guesses() -> None:
    twins = Twins(AUTO)
    async with twins.ground:
        asking = []
        for number in range(60):
            request = twins.decide(session=f"session {number}")
            asking.append(asyncio.create_task(twins.read(request)))
            await asyncio.sleep(0)
        guessing, plain = (pod.in_flight for pod in twins.ground.by_name.values())
        await asyncio.gather(*asking)

    assert 60 == guessing + plain
    assert 40 < guessing <= 8 * (plain + 1)


@virtual
async def test_other_cohorts_are_judged_anew() -> None:
    twins = Twins(SpeculationBody(percent=50), [BAD, SLOW])
    async with twins.ground:
        await asking(twins, 100)
        [before] = twins.speculating.judged()
        draft = twins.tables.edit()
        draft.put(model(guessing("new"), PLAIN))
        twins.tables = draft.done()
        twins.ground.by_name["pod-1"].cohort = "new"
        twins.decide()
        [after] = twins.speculating.judged()

    assert (False, True) == (before.worth, after.worth)


# When pods fail


@virtual
async def test_a_plain_pod_answers_when_the_one_that_guesses_fails() -> None:
    twins = Twins(AUTO, ["!503", SLOW])
    async with twins.ground:
        answer = await twins.ask(session="in-the-share")

    assert ["upstream_unavailable", "ok"] == answer.results
    assert ["guessing", "plain"] == [each.cohort.name for each in answer.attempts]


@virtual
async def test_an_ejected_pod_is_not_asked_first() -> None:
    twins = Twins(AUTO, [FAST, SLOW])
    async with twins.ground:
        twins.ground.by_name["pod-1"].eject(asyncio.get_running_loop().time(), 30.0)
        answer = await twins.ask(session="in-the-share")

    assert ["plain"] == [each.cohort.name for each in answer.attempts]
