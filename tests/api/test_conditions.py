from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given, strategies as st

from headgate_api.conditions import Mark, Reason, settle

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
UP = Mark("Ready", "True", Reason.PROBE_ANSWERED, "2 of 2 replicas answer")
DOWN = Mark("Ready", "False", Reason.PROBE_FAILED, "no token")
SETTLED = {
    "type": "Ready",
    "status": "True",
    "reason": "ProbeAnswered",
    "message": "2 of 2 replicas answer",
    "observedGeneration": 3,
    "lastTransitionTime": "2030-01-02T12:00:00Z",
}


def test_a_mark_becomes_a_condition() -> None:
    assert [SETTLED] == settle((), [UP], 3, NOON)


def test_the_time_is_written_in_utc() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=-7)))

    assert [SETTLED] == settle((), [UP], 3, there)


def test_the_time_stays_while_the_status_stays() -> None:
    word = Mark("Ready", "True", Reason.SERVING, "another word")

    after = settle([SETTLED], [word], 4, LATER)

    assert [("Serving", 4, SETTLED["lastTransitionTime"])] == [
        (c["reason"], c["observedGeneration"], c["lastTransitionTime"]) for c in after
    ]


def test_the_time_moves_when_the_status_flips() -> None:
    after = settle([SETTLED], [DOWN], 3, LATER)

    assert ["2030-01-02T12:05:00Z"] == [c["lastTransitionTime"] for c in after]


def test_a_type_that_is_not_marked_goes_away() -> None:
    available = Mark("Available", "True", Reason.MINIMUM_REPLICAS_READY, "1 answers")

    assert ["Available"] == [c["type"] for c in settle([SETTLED], [available], 3, NOON)]


def test_a_long_sentence_is_cut_to_what_the_schema_takes() -> None:
    long = Mark("Ready", "False", Reason.PROBE_FAILED, "x" * 5000)

    assert 1024 == len(settle((), [long], 1, NOON)[0]["message"])


@given(st.lists(st.sampled_from([UP, DOWN]), min_size=1))
def test_settling_twice_is_settling_once(marks: list[Mark]) -> None:
    """For every history: a pass that finds nothing new writes nothing new."""
    conditions: list[dict[str, Any]] = []
    for mark in marks:
        conditions = settle(conditions, [mark], 1, NOON)

    assert conditions == settle(conditions, [marks[-1]], 1, LATER)
