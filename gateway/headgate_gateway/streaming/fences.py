"""Code fences: which lines of a Markdown text are code."""

import re
from typing import Final

FENCE: Final = re.compile(r"[ \t>]*(`{3,}|~{3,})([^\n]*)")
"""A line that begins or ends a block of code. Models indent them under list items."""
GROWING: Final = re.compile(r"[ \t>]*(?:`+|~+)\Z")
"""A line that is nothing but such a mark so far: more of it may come."""
LONGEST: Final = 512
"""Characters of a line that are looked at."""


class Fences:
    """Follows a text that is given to it piece by piece."""

    __slots__ = ("_line", "_open", "_plain")

    def __init__(self) -> None:
        self._open = ""  # the mark that began the block we are in
        self._line = ""  # the last one so far: its beginning, if it is long
        self._plain = True  # there is no mark in it, and we are in no block

    def feed(self, text: str) -> None:
        if self._plain and "\n" not in text and _plain(text):  # as nearly all of what models say
            self._line = (self._line + text)[:LONGEST]
            return
        self._open, line = self._behind(text)
        self._line = line[:LONGEST]
        self._plain = not self._open and _plain(line)

    @property
    def prose(self) -> bool:
        """Whether the last line is no mark, whatever follows in it."""
        return self._line.lstrip(" \t>")[:1] not in "`~"

    def line(self, text: str) -> str:
        """Return what would be the last line behind `text`, so far."""
        begin = text.rfind("\n") + 1
        return text[begin:] if begin else self._line + text

    def holds(self, text: str) -> bool:
        """Say whether `text` would end in code, or in a mark around it."""
        if self._plain and _plain(text):
            return False
        mark, line = self._behind(text)
        return bool(mark or _after("", line))

    def grows(self, text: str) -> bool:
        """Say whether `text` would end in a part of a mark, maybe not all of it."""
        return GROWING.match(self.line(text)) is not None

    def _behind(self, text: str) -> tuple[str, str]:
        """Tell what it would be behind `text`: the mark that is open, and the last line so far."""
        mark, line = self._open, self.line(text)
        if "\n" in text and not (self._plain and _plain(text)):
            first, *lines = text.split("\n")
            mark = _after(mark, self._line + first)
            for each in lines[:-1]:
                mark = _after(mark, each)
        return mark, line

    @property
    def close(self) -> str:
        """What closes the block that is open where the text ends. Empty: none is."""
        still = _after(self._open, self._line)
        if not still:
            return ""
        return f"\n{still}\n" if self._line else f"{still}\n"


def _plain(text: str) -> bool:
    return "`" not in text and "~" not in text


def _after(mark: str, line: str) -> str:
    """Return the mark of the block that is open behind a line.

    >>> [_after("", "```py"), _after("```", "x = 1"), _after("````", "```"), _after("```", "````")]
    ['```', '```', '````', '']
    """
    found = FENCE.match(line)
    if found is None:
        return mark
    new, rest = found.groups()
    if mark:
        closes = new[0] == mark[0] and len(new) >= len(mark) and not rest.strip()
        return "" if closes else mark
    return "" if new[0] == "`" and "`" in rest else new
