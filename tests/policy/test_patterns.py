import pytest

from headgate_policy.patterns import PatternUnsupported, pattern


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
