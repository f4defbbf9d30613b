"""Token estimates. What they were measured against is told in `headgate_policy.tokens`."""

import pytest
from hypothesis import given, strategies as st

from headgate_policy.tokens import (
    EVERY,
    LONGEST_MEMORY,
    PART,
    SAMPLED,
    SAMPLING_ERROR,
    STEEPEST,
    Calibration,
    estimate,
    estimate_soon,
)

KINDS = (
    "The lighthouse keeper climbs the stairs every evening. ",
    "def total(items: list[int]) -> int:\n    return sum(items)\n\n",
    '{"name": "harbour", "depth": 12.5, "open": true}\n',
    "Der Leuchtturm steht seit hundert Jahren auf der Klippe. ",
    "灯台は百年前から崖の上に立っている。",
    "3.14159 2.71828 ",
)
PIECES = st.builds(
    lambda kind, length: (kind * (length // len(kind) + 1))[:length],
    st.sampled_from(KINDS),
    st.integers(SAMPLED, 8 * SAMPLED),
)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        # What GPT-4o's vocabulary makes of them.
        ("Give a grammar tip on how to end a German verb.", 12),
        ("def total(items: list[int]) -> int:\n    return sum(items)\n", 15),
        ('{"name": "harbour", "depth": 12.5, "open": true}', 20),
        ("Der Leuchtturm steht seit hundert Jahren auf der Klippe.", 14),
        ("灯台は百年前から崖の上に立っている。", 15),
    ],
)
def test_an_estimate_is_near_to_what_a_vocabulary_of_today_counts(text: str, counted: int) -> None:
    assert pytest.approx(counted, rel=0.35) == estimate(text)


@given(st.text(), st.text())
def test_texts_estimated_apart_are_never_less_than_together(one: str, other: str) -> None:
    assert estimate(one + other) <= estimate(one) + estimate(other)


@given(st.text())
def test_only_the_empty_text_has_no_tokens(text: str) -> None:
    assert (text == "") is (estimate(text) == 0)
    assert 0 <= estimate(text)


def test_a_character_that_cannot_be_written_down_is_counted_as_well() -> None:
    assert estimate("?") == estimate("\ud800")


@given(st.lists(PIECES, min_size=1, max_size=6).map("".join))
def test_a_long_text_is_estimated_by_samples_as_well_as_is_said(text: str) -> None:
    assert pytest.approx(estimate(text), rel=SAMPLING_ERROR) == estimate_soon(text)


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=90).map("".join))
def test_samples_do_not_keep_step_with_a_text_that_repeats_itself(block: str) -> None:
    text = block * (20 * SAMPLED // len(block))
    assert pytest.approx(estimate(text), rel=SAMPLING_ERROR) == estimate_soon(text)


def test_a_long_text_is_estimated_in_parts() -> None:
    assert 3 * estimate("a" * PART) + estimate("a") == estimate("a" * (3 * PART + 1))


@given(st.text())
def test_a_short_text_is_not_sampled(text: str) -> None:
    assert estimate(text) == estimate_soon(text)


class TestCalibration:
    def test_it_finds_the_ratio_of_a_model_that_counts_evenly(self) -> None:
        model = Calibration()
        for estimated in (10, 200, 3000):
            model.learn(estimated, estimated * 2)
        assert (2.0, 20) == (model.ratio, model.apply(10))

    def test_it_forgets_how_a_model_counted_long_ago(self) -> None:
        model = Calibration()
        for _ in range(LONGEST_MEMORY):
            model.learn(100, 200)
        for _ in range(10 * LONGEST_MEMORY):
            model.learn(100, 100)
        assert pytest.approx(1.0, abs=0.001) == model.ratio

    def test_nothing_is_learnt_from_nothing(self) -> None:
        model = Calibration()
        model.learn(0, 5)
        model.learn(5, 0)
        assert 1.0 == model.ratio

    def test_each_input_is_wanted_at_first_and_few_later(self) -> None:
        model = Calibration()
        wanted = [model.wants() for _ in range(3 * EVERY)]
        assert ([True] * EVERY, 2) == (wanted[:EVERY], sum(wanted[EVERY:]))

    @given(st.lists(st.tuples(st.integers(-1, 10**6), st.integers(-1, 10**6))))
    def test_no_model_leads_it_far_away(self, samples: list[tuple[int, int]]) -> None:
        model = Calibration()
        for estimated, counted in samples:
            model.learn(estimated, counted)
        assert 1 / STEEPEST <= model.ratio <= STEEPEST
