"""A checked expression: a tree in which every part has its type."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headgate_policy.cel.functions import Function
from headgate_policy.cel.types import Type
from headgate_policy.cel.words import Word


@dataclass(frozen=True, slots=True, kw_only=True)
class _Term:
    """`expression[start:end]`, which is of `type`."""

    start: int
    end: int
    type: Type

    @property
    def parts(self) -> "tuple[Term, ...]":
        return ()


@dataclass(frozen=True, slots=True)
class Constant(_Term):
    value: Any  # of a pattern: compiled


@dataclass(frozen=True, slots=True)
class Read(_Term):
    word: Word


@dataclass(frozen=True, slots=True)
class Has(_Term):
    """Whether an optional word has a value."""

    word: Word


@dataclass(frozen=True, slots=True)
class Variable(_Term):
    name: str


@dataclass(frozen=True, slots=True)
class Items(_Term):
    items: "tuple[Term, ...]"

    @property
    def parts(self) -> "tuple[Term, ...]":
        return self.items


@dataclass(frozen=True, slots=True)
class Apply(_Term):
    function: Function
    arguments: "tuple[Term, ...]"

    @property
    def parts(self) -> "tuple[Term, ...]":
        return self.arguments


@dataclass(frozen=True, slots=True)
class Logic(_Term):
    sign: str  # && or ||
    sides: "tuple[Term, ...]"

    @property
    def parts(self) -> "tuple[Term, ...]":
        return self.sides


@dataclass(frozen=True, slots=True)
class Choice(_Term):
    condition: "Term"
    yes: "Term"
    no: "Term"

    @property
    def parts(self) -> "tuple[Term, ...]":
        return self.condition, self.yes, self.no


@dataclass(frozen=True, slots=True)
class Loop(_Term):
    """A macro: `body` for each item of `items`, which it calls `variable`."""

    macro: str
    items: "Term"
    variable: str
    body: "Term"

    @property
    def parts(self) -> "tuple[Term, ...]":
        return self.items, self.body


Term = Constant | Read | Has | Variable | Items | Apply | Logic | Choice | Loop


def within(term: Term) -> Iterator[Term]:
    """Give `term` and all that is in it."""
    yield term
    for part in term.parts:
        yield from within(part)


def fallible(term: Term) -> bool:
    """Tell whether evaluating `term` can end in an error."""
    return any(
        (isinstance(part, Apply) and part.function.fallible)
        or (isinstance(part, Read) and part.word.optional)
        for part in within(term)
    )
