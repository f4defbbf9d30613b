"""What guessing ahead is worth: the rule by itself."""

import random
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate_api.snapshot import SpeculationBody
from headgate_gateway.calls.events import Usage
from headgate_gateway.routing.speculation import (
    LEVELS,
    MARGIN,
    PAIRS,
    ROUND,
    TRIAL,
    Answered,
    Pace,
    Worth,
    benefit,
    evidence,
)

from .conftest import cohort, guessing

SAID = SpeculationBody(min_acceptance_percent=40, min_benefit_percent=5)
WORTH = 0.010  # s per token, where guessing is worth it
PLAIN = 0.020


def guessed(accepted: int = 60, pace: float = WORTH, *, load: int = 1, **more: Any) -> Answered:
    told = {"tokens": 100, "seconds": 100 * pace, "drafted": 100, "accepted": accepted} | more
    return Answered(guesses=True, load=load, **told)


def plain(pace: float = PLAIN, *, load: int = 1) -> Answered:
    return Answered(guesses=False, load=load, tokens=100, seconds=100 * pace)


def learn(worth: Worth, answers: Iterable[Answered], said: SpeculationBody = SAID) -> Worth:
    for answer in answers:
        worth.learn(answer, said)
    return worth


def known(worth: Worth) -> tuple[str | None, int | None, int | None]:
    """What is too low, the acceptance and the benefit."""
    numbers = (worth.acceptance, worth.benefit)
    acceptance, benefit = (None if found is None else round(found) for found in numbers)
    return worth.given_up, acceptance, benefit


UNTOLD = {"drafted": 0, "accepted": 0}
UNTIMED = {"tokens": 0, "seconds": 0.0}


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([guessed()] * (ROUND - 1), (None, None, None)),
        ([guessed()] * ROUND, (None, 60, None)),
        ([guessed(40)] * ROUND, (None, 40, None)),
        ([guessed(39)] * ROUND, ("acceptance", 39, None)),
        ([plain()] * PAIRS + [guessed()] * ROUND, (None, 60, 50)),
        ([plain()] * (PAIRS - 1) + [guessed()] * ROUND, (None, 60, None)),
        ([plain()] * PAIRS + [guessed(60, 0.0192)] * ROUND, ("benefit", 60, 4)),
        ([plain()] * PAIRS + [guessed(10, 0.03)] * ROUND, ("acceptance", 10, -50)),
        # At another load nothing is compared.
        ([plain(load=2)] * PAIRS + [guessed(60, 0.03, load=4)] * ROUND, (None, 60, None)),
        ([plain(load=5)] * PAIRS + [guessed(60, 0.03, load=4)] * ROUND, ("benefit", 60, -50)),
        # A server that does not tell of its guesses is judged by the time alone.
        ([plain()] * PAIRS + [guessed(**UNTOLD)] * ROUND, (None, None, 50)),
        ([plain()] * PAIRS + [guessed(pace=0.02, **UNTOLD)] * ROUND, ("benefit", None, 0)),
        # One whose tokens nobody knows is judged by its guesses alone.
        ([plain()] * PAIRS + [guessed(**UNTIMED)] * ROUND, (None, 60, None)),
        # Nothing is known of answers that tell neither.
        ([guessed(**UNTOLD, **UNTIMED)] * 3 * ROUND, (None, None, None)),
    ],
)
def test_a_round_of_answers_is_judged_by_the_two_measures(
    answers: list[Answered], found: tuple[str | None, int | None, int | None]
) -> None:
    assert found == known(learn(Worth(), answers))


@pytest.mark.parametrize(
    ("then", "given_up"),
    [
        ([guessed(44)] * ROUND, "acceptance"),
        ([guessed(45)] * ROUND, None),
        ([guessed(45)] * (ROUND - 1), "acceptance"),
        ([plain()] * PAIRS + [guessed(45, 0.019)] * ROUND, "benefit"),
        ([plain()] * PAIRS + [guessed(45, 0.018)] * ROUND, None),
        # It is not taken up again without knowing better.
        ([plain()] * PAIRS + [guessed(**UNTOLD)] * ROUND, "acceptance"),
    ],
)
def test_what_was_given_up_is_taken_up_again_with_a_margin(
    then: list[Answered], given_up: str | None
) -> None:
    worth = learn(Worth(), [guessed(10)] * ROUND)

    assert "acceptance" == worth.given_up
    assert given_up == learn(worth, then).given_up


def test_every_threshold_can_be_met_again() -> None:
    said = SpeculationBody(min_acceptance_percent=100)
    worth = learn(Worth(), [guessed(99)] * ROUND, said)

    assert "acceptance" == worth.given_up
    assert learn(worth, [guessed(100)] * ROUND, said).given_up is None


def test_plain_answers_of_long_ago_are_forgotten() -> None:
    worth = learn(Worth(), [plain(0.005)] * 1000 + [plain()] * 20 * ROUND + [guessed()] * ROUND)

    assert (None, 60, 50) == known(worth)


@given(st.integers(0, 100), st.booleans())
def test_the_share_is_what_the_route_says_within_what_must_be_measured(
    percent: int, worth_it: bool
) -> None:
    worth = Worth()
    worth.given_up = None if worth_it else "benefit"
    share = worth.share(percent)

    assert share <= min(percent, 100 - TRIAL)
    assert share >= min(percent, TRIAL)
    if worth_it and percent <= 100 - TRIAL:
        assert percent == share


ANSWERS = st.one_of(
    st.builds(
        guessed,
        st.integers(0, 100),
        st.floats(0.001, 0.1),
        load=st.integers(1, 2**12),
        tokens=st.sampled_from([0, 1, 100]),
        drafted=st.sampled_from([0, 100]),
    ),
    st.builds(plain, st.floats(0.001, 0.1), load=st.integers(1, 2**12)),
)


@given(st.lists(st.tuples(ANSWERS, st.integers(1, 40)), max_size=30))
def test_between_two_changes_lies_a_whole_round(runs: list[tuple[Answered, int]]) -> None:
    """Whatever comes, in runs of answers that are alike: so it cannot flap."""
    worth, told, changes = Worth(), 0, [0]
    for answer in (answer for answer, times in runs for _ in range(times)):
        before = worth.given_up is None
        worth.learn(answer, SAID)
        told += answer.guesses and bool(answer.tokens or answer.drafted)
        if before is not (worth.given_up is None):
            changes.append(told)

    assert all(after - before >= ROUND for before, after in pairwise(changes))


@given(
    st.integers(0, 100),
    st.lists(st.integers(-MARGIN + 1, MARGIN - 1), min_size=5, max_size=20),
)
def test_what_hovers_at_a_threshold_changes_at_most_once(least: int, around: list[int]) -> None:
    said = SpeculationBody(min_acceptance_percent=least)
    worth, changes = Worth(), 0
    for more in around:
        before = worth.given_up
        learn(worth, [guessed(max(0, min(99, least + more)))] * ROUND, said)
        changes += before is not worth.given_up

    assert changes <= 1


@given(
    st.floats(0.2, 3),
    st.lists(
        st.tuples(st.integers(1, LEVELS), st.floats(0.001, 0.1), st.integers(1, 30)),
        min_size=1,
        max_size=6,
        unique_by=lambda level: level[0],
    ),
    st.data(),
)
def test_the_benefit_is_that_at_like_load_however_differently_the_two_are_loaded(
    ratio: float, levels: list[tuple[int, float, int]], data: st.DataObject
) -> None:
    """For levels that are as slow as may be, if guessing takes `ratio` of the time at each."""
    two: tuple[list[Pace], list[Pace]] = (
        [Pace() for _ in range(LEVELS)],
        [Pace() for _ in range(LEVELS)],
    )
    for level, pace, most in levels:
        for paces, factor in zip(two, (ratio, 1.0), strict=True):
            answers = data.draw(st.integers(PAIRS, PAIRS + most))
            for _ in range(answers):
                seconds = 100 * pace * factor
                paces[level - 1].add(Answered(guesses=True, load=1, tokens=100, seconds=seconds))

    assert pytest.approx(100 * (1 - ratio), abs=1e-6) == benefit(*two)


def test_busy_hours_give_it_up_and_quiet_ones_bring_it_back() -> None:
    """Guessing saves a third of the time on quiet pods, and costs a fifth on busy ones."""
    chance, worth, told = random.Random(7), Worth(), []  # noqa: S311
    for load in (2, 20, 20, 2, 2):
        for _ in range(1500):
            guesses = chance.random() * 100 < worth.share(50)
            pace = 0.01 * (1 + load / 10) * chance.uniform(0.8, 1.2)
            if guesses:
                worth.learn(guessed(60, pace * (0.67 if load < 8 else 1.2), load=load), SAID)
            else:
                worth.learn(plain(pace, load=load), SAID)
        told.append(worth.given_up)

    assert [None, "benefit", "benefit", None, None] == told


# Of one answer


@pytest.mark.parametrize(
    ("guesses", "usage", "seconds", "learnt"),
    [
        (True, Usage(9, 101, drafted_tokens=90, accepted_tokens=60), 2.0, (100, 2.0, 90, 60)),
        (False, Usage(9, 101), 2.0, (100, 2.0, 0, 0)),
        (False, Usage(9, 101, estimated=True), 2.0, (100, 2.0, 0, 0)),
        # Several tokens came at once, and nobody says how many.
        (True, Usage(9, 101, estimated=True), 2.0, (0, 2.0, 0, 0)),
        (True, Usage(9, 101, True, drafted_tokens=9, accepted_tokens=5), 2.0, (100, 2.0, 9, 5)),
        (True, Usage(9, 1, drafted_tokens=0, accepted_tokens=0), 0.0, (0, 0.0, 0, 0)),
        (True, Usage(9, 0, drafted_tokens=3, accepted_tokens=0), None, (0, 0.0, 3, 0)),
    ],
)
def test_an_answer_is_evidence_as_far_as_its_model_server_counts(
    guesses: bool, usage: Usage, seconds: float | None, learnt: tuple[int, float, int, int]
) -> None:
    of = guessing("g") if guesses else cohort("p")

    found = evidence(of, usage, load=3, seconds=seconds)

    assert (guesses, 3) == (found.guesses, found.load)
    assert learnt == (found.tokens, found.seconds, found.drafted, found.accepted)
