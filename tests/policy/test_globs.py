import re

import pytest
from hypothesis import given, strategies as st

from headgate_policy.globs import matches


@pytest.mark.parametrize(
    ("globs", "name", "found"),
    [
        (None, "anything", True),
        ([], "anything", False),
        (["*"], "a/b.c", True),
        (["llama-*"], "llama-", True),
        (["llama-*"], "LLAMA-1", False),
        (["a.c"], "abc", False),
        (["*-8b"], "llama-8b-x", False),
        (["x", "l*a-*b"], "llama-8b", True),
    ],
)
def test_a_star_stands_for_any_characters(globs: list[str] | None, name: str, found: bool) -> None:
    assert found == matches(globs if globs is None else tuple(globs), name)


@given(name=st.text("ab.*", max_size=9), stars=st.integers(0, 40))
def test_stars_alone_match_all_and_a_name_matches_itself(name: str, stars: int) -> None:
    plain = re.sub(r"\*", "x", name)
    assert matches((plain,), plain)
    assert matches(("*" * (stars + 1),), name)
