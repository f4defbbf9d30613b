"""Weighted splits: everybody keeps the side that is theirs, and shares are what weights say."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from headgate_gateway.routing.stickiness import choose, turn

KEYS = [b"session %d" % number for number in range(4000)]
weights = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 100), min_size=2)


def sides(shares: dict[str, int]) -> dict[bytes, str]:
    targets = [(name, name, weight) for name, weight in shares.items()]
    return {key: choose(key, targets) for key in KEYS}


@pytest.mark.parametrize("shares", [{"a": 1, "b": 1}, {"a": 3, "b": 1}, {"a": 5, "b": 90, "c": 5}])
def test_each_target_has_its_share_of_the_sessions(shares: dict[str, int]) -> None:
    found = Counter(sides(shares).values())
    whole = sum(shares.values())
    for name, weight in shares.items():
        assert found[name] / len(KEYS) == pytest.approx(weight / whole, abs=0.03)


@given(shares=weights, data=st.data())
def test_a_weight_that_changes_moves_only_what_must_move(
    shares: dict[str, int], data: st.DataObject
) -> None:
    """Sessions only come to the target whose weight rises, or only leave the one that falls."""
    name = data.draw(st.sampled_from(sorted(shares)))
    after = shares | {name: data.draw(st.integers(0, 200))}
    targets, others = ([(n, n, w) for n, w in each.items()] for each in (shares, after))
    for key in KEYS[:300]:
        was, now = choose(key, targets), choose(key, others)
        if was != now:
            assert name == (now if after[name] > shares[name] else was)


@given(shares=weights, data=st.data())
def test_a_target_that_is_gone_moves_nobody_else(
    shares: dict[str, int], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(shares)))
    targets = [(n, n, w) for n, w in shares.items()]
    left = [target for target in targets if target[0] != gone]
    for key in KEYS[:300]:
        was = choose(key, targets)
        assert was in {gone, choose(key, left)}


@given(order=st.permutations("abcd"))
def test_the_order_of_targets_does_not_matter(order: list[str]) -> None:
    one = [(name, name, ord(name)) for name in "abcd"]
    other = [(name, name, ord(name)) for name in order]

    assert [choose(key, one) for key in KEYS[:100]] == [choose(key, other) for key in KEYS[:100]]


def test_a_session_draws_anew_once_in_its_time_and_not_all_at_the_same_moment() -> None:
    changes = Counter(
        now
        for key in KEYS[:1000]
        for before, now in pairwise(range(0, 7200, 60))
        if turn(key, before, 3600.0) != turn(key, now, 3600.0)
    )

    assert 1900 <= sum(changes.values()) <= 2000
    assert 60 > max(changes.values())
