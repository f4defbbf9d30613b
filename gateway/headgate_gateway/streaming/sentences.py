"""Where a sentence ends. Pure, and decided by what stands before the mark and one character behind.

It errs to one side: two sentences that are taken for one cost a reader a moment, half a sentence
that is taken for a whole one can be a promise that the other half takes back.
"""

import re
from typing import Final

CLOSERS: Final = "\"')]}*_`’”»"  # noqa: RUF001 - meant
"""What may stand between a mark and the space behind it; Markdown's among them."""
WIDE_CLOSERS: Final = "」』）】〉》”’）"  # noqa: RUF001 - meant
MARKS: Final = ".!?…"
WIDE_MARKS: Final = "。！？｡"  # noqa: RUF001 - meant
"""They end a sentence without a space behind them."""
OPEN: Final = MARKS + WIDE_MARKS + CLOSERS + WIDE_CLOSERS
"""A text that ends with one of these may be the end of a sentence: the next character says."""

# Possessive, and never begun inside a run: a text of nothing but dots is looked at once.
CANDIDATE: Final = re.compile(
    rf"\n"
    rf"|(?<![{MARKS}])[{MARKS}]++[{re.escape(CLOSERS)}]*+(?=[^\S\r])"
    rf"|(?<![{WIDE_MARKS}])[{WIDE_MARKS}]++[{WIDE_CLOSERS}]*+(?=[^{WIDE_CLOSERS}])"
)
"""Where a line ends, or a sentence may: behind the match, and the space that follows if any."""
LAST: Final = re.compile(
    rf"(?<![{MARKS}])[{MARKS}]++[{re.escape(CLOSERS)}]*+\Z"
    rf"|(?<![{WIDE_MARKS}])[{WIDE_MARKS}]++[{WIDE_CLOSERS}]*+\Z"
)
"""The same at the end of what has come."""

_WORDS: Final = """
mr mrs ms dr prof st sr jr rev hon gen col capt lt sgt gov sen rep ph.d
vs cf al ca approx est etc incl excl resp viz
fig figs eq eqs sec ch vol pp ed eds nos art para ref refs
inc ltd co corp dept univ ave blvd rd mt ft
jan feb mar apr jun jul aug sep sept oct nov dec
bzw bspw usw evtl ggf inkl nr str hr fr mme mlle sra srta
"""
ABBREVIATIONS: Final = frozenset(_WORDS.split())
LOOKED_AT: Final = 24
"""Characters before a dot."""
_DOTTED: Final = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")
"""Of `e.g.`, `U.S.` and `z.B.`, all but the last dot."""
_ITEM: Final = re.compile(r"[ \t>]*(?:[-*+] +)*[*_#(\[ ]*\d{1,9}")
"""A line that is only the number of a list's item so far."""
_OPENERS: Final = "([{\"'“‘«„*_`-–—/"  # noqa: RUF001 - meant


def ends_sentence(text: str, found: re.Match[str], line: str) -> bool:
    """Say whether the marks that were found end a sentence.

    Args:
        text: what they stand in.
        found: by `CANDIDATE` or `LAST`; not a line's end.
        line: what stands before them in the same line.

    >>> def ends(said):
    ...     found = LAST.search(said)
    ...     return ends_sentence(said, found, said[: found.start()])
    >>> [ends(said) for said in ("All is done.", "Dr.", "e.g.", "So...", "1.", "Done!", "完了。")]
    [True, False, False, False, False, True, True]
    """
    marks = found.group().rstrip(CLOSERS)
    if marks != ".":
        return marks[-1] not in ".…"
    at = found.start()
    words = text[max(0, at - LOOKED_AT) : at].rsplit(None, 1)
    if not words or text[at - 1].isspace():
        return True
    word = words[-1].lstrip(_OPENERS)
    if word.isdecimal():
        return _ITEM.fullmatch(line) is None
    if len(word) == 1:
        return not word.isalpha()
    if "." in word and _DOTTED.fullmatch(word) is not None:
        return False
    return word.lower() not in ABBREVIATIONS
