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
from headgate_policy.cel.types import NUMBERS

Outcomes = frozenset[bool | None]
"""What a condition can turn out to be. None is an error."""

EITHER: Final[Outcomes] = frozenset({True, False})

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
            asked = outcomes(condition)
            taken = [outcomes(side) for value, side in ((True, yes), (False, no)) if value in asked]
            return frozenset(asked & {None}).union(*taken)
        case _:
            return _of_leaf(term)


def _of_leaf(term: Term) -> Outcomes:
    if not any(isinstance(part, Read | Has) for part in within(term)):
        return frozenset({_evaluated(term)})
    possible = _compared(term) if isinstance(term, Apply) else EITHER
    return possible | {None} if fallible(term) else possible


def _joined(decisive: bool, one: bool | None, other: bool | None) -> bool | None:
    if decisive in (one, other):
        return decisive
    return None if None in (one, other) else not decisive


def _evaluated(term: Term) -> bool | None:
    try:
        return bool(compiled(term)(None))
    except Failed:
        return None


def _compared(term: Apply) -> Outcomes:
    """Compare the bounds of two sides: `now.hour` is never above 23."""
    compare = _COMPARE.get(term.function.name)
    if compare is None:
        return EITHER
    ends = [end for side in term.arguments if (end := _ends(side))]
    if len(ends) < 2:
        return EITHER
    (least, greatest), (others_least, others_greatest) = ends
    if (
        compare in (operator.eq, operator.ne)
        and least <= others_greatest
        and others_least <= greatest
    ):
        return EITHER
    return frozenset(compare(*pair) for pair in product(*ends))


def _ends(term: Term) -> tuple[float, float] | None:
    match term:
        case Constant(value=value, type=kind) if kind in NUMBERS:
            return value, value
        case Read(word=word, type=kind) if kind in NUMBERS:
            least = -inf if word.least is None else word.least
            return least, inf if word.greatest is None else word.greatest
        case _:
            return None


def required(term: Term, name: str) -> frozenset[Any] | None:
    """Give the values of which the word `name` has one whenever `term` is true. None: any."""
    match term:
        case Logic(sign=sign, sides=sides):
            found = [required(side, name) for side in sides]
            known = [values for values in found if values is not None]
            if sign == "&&":
                return frozenset.intersection(*known) if known else None
            return frozenset.union(*known) if len(known) == len(found) else None
        case Apply(function=Function(name="=="), arguments=(one, other)):
            return _among(one, (other,), name) or _among(other, (one,), name)
        case Apply(function=Function(name="in"), arguments=(one, Items(items=items))):
            return _among(one, items, name)
        case _:
            return None


def _among(word: Term, values: tuple[Term, ...], name: str) -> frozenset[Any] | None:
    if not (isinstance(word, Read) and word.word.name == name):
        return None
    constants = [value.value for value in values if isinstance(value, Constant)]
    return frozenset(constants) if len(constants) == len(values) else None


def constant(term: Term) -> bool | None:
    """Tell what a rule is for every request: it always holds, it never does. None: it depends."""
    possible = outcomes(term)
    if possible == {True}:
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
