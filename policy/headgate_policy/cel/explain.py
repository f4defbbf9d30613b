"""Why a rule held or did not, in the words of its author."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from headgate_policy.cel.compile import compiled
from headgate_policy.cel.functions import Failed
from headgate_policy.cel.terms import Apply, Choice, Logic, Read, Term, within
from headgate_policy.cel.types import MAP

LONGEST: Final = 64
"""Characters of a value that are told."""

Outcome = bool | None
"""None: it failed, which counts as not holding."""


@dataclass(frozen=True, slots=True)
class Because:
    """A part of a rule that decided, and what it read."""

    text: str
    outcome: Outcome
    failure: str = ""
    values: tuple[tuple[str, str], ...] = ()  # what was read, and how it reads

    def __str__(self) -> str:
        if self.outcome is None:
            return f"{self.text}: {self.failure}"
        said = f"{self.text} is {_written(self.outcome)}"
        read = ", ".join(f"{word} is {value}" for word, value in self.values if word != self.text)
        return f"{said} ({read})" if read else said


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a rule, and by which of its parts."""

    outcome: Outcome
    because: tuple[Because, ...]


Teller = Callable[[Any], Told]


def teller(term: Term, expression: str) -> Teller:
    """Build a function from features to what became of `term`."""
    match term:
        case Logic(sign=sign, sides=sides):
            return _logic(sign == "||", [teller(side, expression) for side in sides])
        case Apply(arguments=(inner,)) if term.function.name == "!":
            return _negated(teller(inner, expression))
        case Choice(condition=asked, yes=yes, no=no):
            return _choice(*(teller(part, expression) for part in (asked, yes, no)))
        case _:
            return _leaf(term, expression)


def _logic(decisive: bool, sides: list[Teller]) -> Teller:
    def tell(features: Any) -> Told:
        told = []
        for side in sides:
            one = side(features)
            if one.outcome is decisive:
                return one
            told.append(one)
        failed = [one for one in told if one.outcome is None]
        because = tuple(part for one in failed or told for part in one.because)
        return Told(None if failed else not decisive, because)

    return tell


def _negated(inner: Teller) -> Teller:
    def tell(features: Any) -> Told:
        told = inner(features)
        return Told(None if told.outcome is None else not told.outcome, told.because)

    return tell


def _choice(asked: Teller, yes: Teller, no: Teller) -> Teller:
    def tell(features: Any) -> Told:
        first = asked(features)
        if first.outcome is None:
            return first
        then = (yes if first.outcome else no)(features)
        return Told(then.outcome, first.because + then.because)

    return tell


def _leaf(term: Term, expression: str) -> Teller:
    decide = compiled(term)
    text = " ".join(expression[term.start : term.end].split())
    facts = dict(_facts(term, expression))

    def tell(features: Any) -> Told:
        read = [(word, fact(features)) for word, fact in facts.items()]
        values = tuple((word, value) for word, value in read if value)
        try:
            outcome: Outcome = decide(features)
        except Failed as failed:
            return Told(None, (Because(text, None, str(failed), values),))
        return Told(outcome, (Because(text, outcome, values=values),))

    return tell


def _facts(term: Term, expression: str) -> Iterator[tuple[str, Callable[[Any], str]]]:
    """Find what a part reads: words, and single headers instead of all of them."""
    for part in within(term):
        match part:
            case Read(word=word) if word.type != MAP:
                yield word.name, _value(part, _length if word.private else _clipped)
            case Apply(arguments=(Read(type=kind), _)) if (
                kind == MAP and part.function.name == "[]"
            ):
                yield expression[part.start : part.end], _value(part, _clipped)


def _value(term: Term, told: Callable[[Any], str]) -> Callable[[Any], str]:
    decide = compiled(term)

    def value(features: Any) -> str:
        try:
            return told(decide(features))
        except Failed:
            return ""  # the failure itself says so

    return value


def _length(text: str) -> str:
    return f"{len(text)} characters long"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        # Of a long list only what is shown is written.
        return f"[{', '.join(map(_written, value[:LONGEST]))}]"
    return repr(value[: LONGEST + 1]) if isinstance(value, str) else str(value)


def _clipped(value: Any) -> str:
    text = _written(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
