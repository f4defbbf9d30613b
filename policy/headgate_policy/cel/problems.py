"""What is wrong with an expression, and where: for the person who wrote it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """A no with its place. As text it is one sentence, made to stand behind a field's path.

    >>> str(Problem.at(7, "there is no or; write ||", "a == b or c"))
    'column 8: there is no or; write ||'
    """

    offset: int  # characters before the place
    line: int  # from 1
    column: int  # from 1, in characters
    message: str
    one_line: bool  # whether the expression is

    @classmethod
    def at(cls, offset: int, message: str, text: str) -> "Problem":
        before = text[:offset]
        line = before.count("\n") + 1
        column = offset - before.rfind("\n")
        return cls(offset, line, column, message, "\n" not in text.rstrip())

    def __str__(self) -> str:
        place = f"column {self.column}"
        return f"{place if self.one_line else f'line {self.line}, {place}'}: {self.message}"


class Refused(Exception):
    """Ends the reading of an expression. `check` makes a Problem of it; nobody else sees it."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at
        self.message = message


def meant(word: str, known: Iterable[str], suffix: str = "") -> str:
    """End a sentence with the known word that is nearest to an unknown one, if one is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - few expressions have mistakes

    lowered = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), lowered, n=1)
    return f"; did you mean {lowered[close[0]]}{suffix}?" if close else ""
