"""Patterns of safety rules: RE2, so that no pattern and no text can make matching slow.

Only who has a pattern pays for the library: 2.6 MiB, and 3 ms at the first one.
"""

import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, TypeAlias

from headgate_api.errors import TerminalError

NOWHERE: Final = (-1, -1)
MEMORY: Final = 1 << 20
"""Bytes that a compiled pattern may take: `(a{1000}){1000}` is refused, not built."""

Match: TypeAlias = Callable[[Any, bytes, int, int], list[tuple[int, int]]]


class PatternUnsupported(TerminalError):
    """This is not RE2: look-around, back-references or a mistake."""


class Pattern:
    """A compiled pattern, searched anywhere in a text, whatever the width of its characters."""

    def __init__(self, source: str) -> None:
        import re2  # noqa: PLC0415

        options = re2.Options()
        options.max_mem = MEMORY
        options.log_errors = False
        try:
            self._match: Match = re2.compile(source, options)._regexp.Match
            self._anywhere = re2._Anchor.UNANCHORED
        except re2.error as error:
            raise PatternUnsupported(_sentence(error)) from error

    def found_in(self, text: str) -> bool:
        return self.finds(prepared(text))

    def finds(self, text: bytes) -> bool:
        """Search a text that is `prepared`."""
        # The library's own way to it is a generator that makes a list of all groups.
        return self._match(self._anywhere, text, 0, len(text))[0] != NOWHERE

    def finds_any(self, texts: list[bytes]) -> bool:
        return any(self.finds(text) for text in texts)

    def matches(self, text: str) -> bool:
        """Search `text` as it stands: full-width digits are no digits."""
        return self.finds(text.encode())


@lru_cache(maxsize=4096)
def pattern(source: str) -> Pattern:
    """Compile `source`, once. Raises `PatternUnsupported`."""
    return Pattern(source)


def any_of(sources: Iterable[str]) -> Pattern | None:
    r"""Compile patterns into one that is found where any of them is: most texts match none.

    Returns:
        None: together they are too large, or one does not end where it stops.

    >>> [any_of(["a+", "b"]).found_in(text) for text in ("xb", "x")], any_of([r"\Qa", "b"])
    ([True, False], None)
    """
    listed = list(sources)
    if any(r"\Q" in source for source in listed):
        return None  # without its end it would swallow ours
    try:
        return Pattern("|".join(f"(?:{source})" for source in listed))
    except PatternUnsupported:
        return None


def prepared(text: str) -> bytes:
    """Make a text ready to be searched for any number of patterns."""
    return normal(text).encode()


def normal(text: str) -> str:
    r"""Write a text the one way in which patterns are matched: NFKC.

    Full-width digits and ligatures are else an easy way round a rule.

    >>> normal("\uff14\uff12")
    '42'
    """
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _sentence(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
