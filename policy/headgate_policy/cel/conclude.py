"""What is known of a rule before there is a request."""

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from itertools import product
from math import inf
from typing import Any, Final

from headgate_policy.cel.compile import compiled
from headgate_policy.cel.functions import Failed, Function
from headgate_policy.cel.terms import (
    Apply,
    Choice,
    Constant,
    Has,
    Items,
    Logic,
    Read,
    Term,
    fallible,
    within,
)

Outcomes = frozenset[bool | None]
"""What a condition can turn out to be. None is an error."""

ALWAYS: Final[Outcomes] = frozenset({True})

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def outcomes(term: Term) -> Outcomes:
    """Give at least every outcome that a condition has for some request."""
    match term:
        case Logic(sign=sign, sides=sides):
            decisive = sign == "||"
            return reduce(
                lambda one, other: frozenset(
                    _joined(decisive, *pair) for pair in product(one, other)
                ),
                map(outcomes, sides),
            )
        case Apply(arguments=(inner,)) if term.function.name == "!":
            return frozenset(None if value is None else not value for value in outcomes(inner))
        case Choice(condition=condition, yes=yes, no=no):
            branches: dict[bool | None, Callable[[], Outcomes]] = {
                True: lambda: outcomes(yes),
                False: lambda: outcomes(no),
                None: lambda: frozenset({None}),
            }
            return frozenset().union(*(branches[value]() for value in outcomes(condition)))
        case _:
            return _of_leaf(term)


def _of_leaf(term: Term) -> Outcomes:
    if not any(isinstance(part, Read | Has) for part in within(term)):
        return frozenset({_evaluated(term)})
    possible = _compared(term) if isinstance(term, Apply) else {True, False}
    return frozenset(possible | ({None} if fallible(term) else set()))


def _joined(decisive: bool, one: bool | None, other: bool | None) -> bool | None:
    if decisive in (one, other):
        return decisive
    return None if None in (one, other) else not decisive


def _evaluated(term: Term) -> bool | None:
    try:
        return bool(compiled(term)(None))
    except Failed:
        return None


def _compared(term: Apply) -> set[bool | None]:
    """A number that stands outside of a word's bounds is below or above all its values."""
    compare = _COMPARE.get(term.function.name)
    match term.arguments:
        case (Read(word=word), Constant(value=int() | float() as value)) if compare:
            ends = _ends(word.least, word.greatest)
            found = {compare(end, value) for end in ends}
        case (Constant(value=int() | float() as value), Read(word=word)) if compare:
            ends = _ends(word.least, word.greatest)
            found = {compare(value, end) for end in ends}
        case _:
            return {True, False}
    if term.function.name in ("==", "!=") and ends[0] <= value <= ends[1]:
        return {True, False}
    return {*found}


def _ends(least: float | None, greatest: float | None) -> tuple[float, float]:
    return -inf if least is None else least, inf if greatest is None else greatest


def required(term: Term, name: str) -> frozenset[Any] | None:
    """Give the values of which the word `name` has one whenever `term` is true. None: any."""
    word, values = term, tuple[Term, ...]()
    match term:
        case Logic(sign="&&", sides=sides):
            known = [values for values in _required(sides, name) if values is not None]
            return frozenset.intersection(*known) if known else None
        case Logic(sides=sides):
            found = _required(sides, name)
            known = [values for values in found if values is not None]
            return frozenset.union(*known) if len(known) == len(found) else None
        case Apply(function=Function(name="=="), arguments=(one, other)):
            word, values = (other, (one,)) if isinstance(one, Constant) else (one, (other,))
        case Apply(function=Function(name="in"), arguments=(one, Items(items=items))):
            word, values = one, items
        case _:
            return None
    if not (isinstance(word, Read) and word.word.name == name):
        return None
    constants = [value.value for value in values if isinstance(value, Constant)]
    return frozenset(constants) if len(constants) == len(values) else None


def _required(sides: tuple[Term, ...], name: str) -> list[frozenset[Any] | None]:
    return [required(side, name) for side in sides]


def constant(term: Term) -> bool | None:
    """Tell what a rule is for every request: it always holds, it never does. None: it depends."""
    possible = outcomes(term)
    if possible == ALWAYS:
        return True
    words = {part.word.name for part in within(term) if isinstance(part, Read)}
    contradictory = any(required(term, name) == frozenset() for name in words)
    return False if contradictory or True not in possible else None


def decisive(term: Term, value: bool) -> Term:
    """Find the smallest part of a rule by which it is always `value`."""
    if isinstance(term, Logic) and (term.sign == "||") == value:
        for side in term.sides:
            if constant(side) is value:
                return decisive(side, value)
    return term
