"""Where a text may be cut when it has to be: between words, or at least between characters."""

from typing import Final
from unicodedata import category

JOINER: Final = "\N{ZERO WIDTH JOINER}"
MOST: Final = 32
"""Code points that one character may have and still be kept whole."""


def last_word(text: str, end: int) -> int:
    """Return the place behind the last white space of `text[:end]`; 0: there is none.

    >>> last_word("to be or", 8)
    6
    """
    return 1 + max(text.rfind(" ", 0, end), text.rfind("\n", 0, end), text.rfind("\t", 0, end))


def whole(text: str, end: int) -> int:
    """Move `end` back until it cuts no character in two that people see as one.

    What has no end within reason is cut all the same.

    >>> whole("ne\u0301e", 2), whole("ne\u0301e", 3)
    (1, 3)
    """
    for at in range(end, max(0, end - MOST), -1):
        if not _joined(text, at):
            return at
    return end


def _joined(text: str, at: int) -> bool:
    """Say whether what stands before `at` and what stands there are parts of one character."""
    before, after = text[at - 1], text[at]
    if before == JOINER or (before == "\r" and after == "\n"):
        return True
    if before in _FLAGS and after in _FLAGS:  # two letters make a flag
        return (at - len(text[:at].rstrip(_FLAGS))) % 2 == 1
    return category(after) in _JOINING or after in _SKINS


_JOINING: Final = frozenset({"Mn", "Mc", "Me", "Cf"})
_FLAGS: Final = "".join(map(chr, range(0x1F1E6, 0x1F200)))
_SKINS: Final = "".join(map(chr, range(0x1F3FB, 0x1F400)))
