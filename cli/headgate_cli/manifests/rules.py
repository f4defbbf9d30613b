"""The CEL rules of the CRDs, run by Google's CEL with the functions that Kubernetes adds.

Only those that our rules use: those of strings, quantities, and the sum of a list of durations.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any, Final

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from headgate_api.base import RULES
from headgate_api.units import parse_quantity
from headgate_cli.manifests.findings import Fault, Path

_TRANSITION: Final = "oldSelf"


def broken(schema: Mapping[str, Any], value: Any, path: Path) -> Iterator[Fault]:
    """Find the rules of `schema` itself, not of what lies deeper, that `value` breaks.

    Rules about what an object was before (`oldSelf`) are left out: a file has no before.
    """
    for rule in schema.get(RULES, ()):
        if _TRANSITION in rule["rule"] or _holds(rule["rule"], value):
            continue
        field = rule.get("fieldPath", "").split(".")
        yield Fault((*path, *filter(None, field)), _message(rule, value))


def _holds(rule: str, value: Any) -> bool:
    """Evaluate a rule. One that ends in an error, as of a pattern that is no RE2, is broken."""
    return _evaluated(rule, value) is True


def _message(rule: Mapping[str, str], value: Any) -> str:
    said = _evaluated(rule["messageExpression"], value) if "messageExpression" in rule else None
    return said if isinstance(said, str) else rule["message"]


def _evaluated(expression: str, value: Any) -> object:
    return _compiled(expression).eval(data={"self": value}).value()


@cache
def _compiled(expression: str) -> cel.Expression:
    return _ENVIRONMENT.compile(expression)


def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except ValueError:
        return False
    return True


def _less(one: str, other: str) -> bool:
    return parse_quantity(one) < parse_quantity(other)


def _sum(durations: list[timedelta]) -> timedelta:
    return sum(durations, timedelta())


def _function(
    name: str, returned: cel.Type, taken: list[cel.Type], impl: Any, *, member: bool
) -> cel.FunctionDecl:
    overload = cel.Overload(name, returned, taken, is_member=member, impl=impl)
    return cel.FunctionDecl(name, [overload])


_BOOL, _TEXT, _SPAN = cel.Type.BOOL, cel.Type.STRING, cel.Type.DURATION
_ENVIRONMENT: Final = cel.NewEnv(
    variables={"self": cel.Type.DYN},
    extensions=[ext_strings.ExtStrings()],
    functions=[
        _function("isQuantity", _BOOL, [_TEXT], _is_quantity, member=False),
        # A quantity stays the text that it is: nothing but comparing is done with it.
        _function("quantity", _TEXT, [_TEXT], str, member=False),
        _function("isLessThan", _BOOL, [_TEXT, _TEXT], _less, member=True),
        _function("sum", _SPAN, [cel.Type.List(_SPAN)], _sum, member=True),
    ],
)
