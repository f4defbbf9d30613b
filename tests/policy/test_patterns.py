import pytest
from hypothesis import given, strategies as st

from headgate_policy.patterns import PatternUnsupported, any_of, pattern

SOURCES = ("a+", "(?i)B", "^c", "a|d$", r"\bb\b", "(?P<name>c)d", "(?P<name>d)", "", "[^a-c]")


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        (r"\b\d{16}\b", "card 4111111111111111.", True),
        (r"\b\d{16}\b", "card 41111111111111110", False),
        (r"(?i)secret", "a SECRET", True),
        ("42", "\uff14\uff12", True),
        ("^b", "a\nb", False),
    ],
)
def test_a_pattern_is_searched_anywhere(source: str, text: str, found: bool) -> None:
    assert found == pattern(source).found_in(text)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("(?=a)", "invalid perl operator: (?="),
        ("(a", "missing ): (a"),
        ("((a{100}){100}){100}", "invalid repetition size: {100}"),
        (r"\pN{999}" * 40, "pattern too large - compile failed"),
    ],
)
def test_what_is_not_re2_is_refused_in_words(source: str, sentence: str) -> None:
    with pytest.raises(PatternUnsupported) as refused:
        pattern(source)
    assert sentence == str(refused.value)


def test_no_text_makes_matching_slow() -> None:
    assert not pattern("(a*)*b").found_in("a" * 1_000_000)


@given(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=4), st.text("abcdB \n\uff22"))
def test_several_patterns_in_one_are_found_where_any_of_them_is(
    sources: list[str], text: str
) -> None:
    together = any_of(sources)
    if together is not None:
        assert any(pattern(source).found_in(text) for source in sources) == together.found_in(text)


@pytest.mark.parametrize("sources", [[r"\Qa", "b"], [rf"{n}\pN{{50}}" for n in range(10)]])
def test_patterns_that_cannot_be_one_are_not_made_one(sources: list[str]) -> None:
    for source in sources:
        pattern(source)
    assert any_of(sources) is None
