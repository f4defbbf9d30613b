"""What expressions can do with values: every function once, as data.

What one means is a Python expression over its arguments `a` and `b`. Compiled rules contain it as
it stands, so that a comparison costs what Python's own costs. What Python does otherwise than CEL
(overflow, division, conversions) is a call of a function below.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from headgate_policy.cel.types import ANY_LIST, BOOL, DOUBLE, INT, NUMBERS, STRING, Type

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,25}")
_REAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CAPITALS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER: Final = str.maketrans(_CAPITALS, _CAPITALS.lower())
_UPPER: Final = str.maketrans(_CAPITALS.lower(), _CAPITALS)


class Failed(Exception):
    """CEL's evaluation error. Its message is told to users and has no text of a request in it."""


@dataclass(frozen=True, slots=True)
class Function:
    """One overload. A method's first parameter is what stands before the dot."""

    name: str
    parameters: tuple[Type, ...]
    result: Type
    python: str
    method: bool = False
    fallible: bool = False


def whole(value: int) -> int:
    if -(2**63) <= value < 2**63:
        return value
    raise Failed("an int overflows")


def divide(one: int, other: int) -> int:
    """Towards zero, where Python goes down."""
    if other == 0:
        raise Failed("a division by zero")
    quotient = abs(one) // abs(other)
    return whole(quotient if (one < 0) == (other < 0) else -quotient)


def remainder(one: int, other: int) -> int:
    """With the sign of `one`, where Python has that of `other`."""
    return one - other * divide(one, other)


def divide_doubles(one: float, other: float) -> float:
    """As IEEE 754 has it: what is divided by zero is infinite, or no number."""
    if other != 0.0:
        return one / other
    if one == 0.0 or math.isnan(one):
        return math.nan
    return math.copysign(math.inf, one) * math.copysign(1.0, other)


def lower(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_LOWER)


def upper(text: str) -> str:
    return text.upper() if text.isascii() else text.translate(_UPPER)


def int_of_double(value: float) -> int:
    if -(2.0**63) < value < 2.0**63:  # not so what is no number
        return int(value)
    raise Failed("a double is too large for an int")


def int_of_text(text: str) -> int:
    if _WHOLE.fullmatch(text):
        return whole(int(text))
    raise Failed("a string is no int")


def double_of_text(text: str) -> float:
    if _REAL.fullmatch(text):
        return float(text)
    raise Failed("a string is no double")


def item_at(items: tuple[Any, ...], index: int) -> Any:
    if 0 <= index < len(items):
        return items[index]
    raise Failed(f"there is no item {index} in a list of {len(items)}")


def value_at(values: dict[str, str], key: str) -> str:
    value = values.get(key)
    if value is None:
        raise Failed(f"no value for the header {key}")
    return value


def given(value: Any, word: str) -> Any:
    if value is None:
        raise Failed(f"no value for {word}")
    return value


def all_of(conditions: Iterable[Callable[[], bool]]) -> bool:
    """`&&` where several sides can fail: one that is false decides, whatever has failed before."""
    return not _any(conditions, False)


def any_of(conditions: Iterable[Callable[[], bool]]) -> bool:
    """`||` where several sides can fail: one that is true decides, whatever has failed before."""
    return _any(conditions, True)


def _any(conditions: Iterable[Callable[[], bool]], decisive: bool) -> bool:
    failure = None
    for condition in conditions:
        try:
            if condition() is decisive:
                return True
        except Failed as failed:
            failure = failure or failed
    if failure:
        raise failure
    return False


def _functions() -> Iterator[Function]:
    for sign, python in (("+", "whole(a + b)"), ("-", "whole(a - b)"), ("*", "whole(a * b)")):
        yield Function(sign, (INT, INT), INT, python, fallible=True)
        yield Function(sign, (DOUBLE, DOUBLE), DOUBLE, f"a {sign} b")
    yield Function("/", (INT, INT), INT, "divide(a, b)", fallible=True)
    yield Function("/", (DOUBLE, DOUBLE), DOUBLE, "divide_doubles(a, b)")
    yield Function("%", (INT, INT), INT, "remainder(a, b)", fallible=True)
    yield Function("+", (STRING, STRING), STRING, "a + b")
    yield Function("-", (INT,), INT, "whole(-a)", fallible=True)
    yield Function("-", (DOUBLE,), DOUBLE, "-a")
    yield Function("!", (BOOL,), BOOL, "not a")
    for sign in ("<", "<=", ">", ">="):
        for one in NUMBERS:
            for other in NUMBERS:
                yield Function(sign, (one, other), BOOL, f"a {sign} b")
        yield Function(sign, (STRING, STRING), BOOL, f"a {sign} b")
    for name, python in (
        ("contains", "b in a"),
        ("startsWith", "a.startswith(b)"),
        ("endsWith", "a.endswith(b)"),
        ("matches", "b.matches(a)"),  # a pattern is compiled when the rule is checked
    ):
        yield Function(name, (STRING, STRING), BOOL, python, method=True)
    yield Function("lowerAscii", (STRING,), STRING, "lower(a)", method=True)
    yield Function("upperAscii", (STRING,), STRING, "upper(a)", method=True)
    for method in (False, True):
        yield Function("size", (STRING,), INT, "len(a)", method=method)
        yield Function("size", (ANY_LIST,), INT, "len(a)", method=method)
    for kind in (INT, DOUBLE, STRING):
        yield Function(kind.name, (kind,), kind, "a")
    yield Function("int", (DOUBLE,), INT, "int_of_double(a)", fallible=True)
    yield Function("int", (STRING,), INT, "int_of_text(a)", fallible=True)
    yield Function("double", (INT,), DOUBLE, "float(a)")
    yield Function("double", (STRING,), DOUBLE, "double_of_text(a)", fallible=True)
    yield Function("string", (INT,), STRING, "str(a)")
    yield Function("string", (BOOL,), STRING, "'true' if a else 'false'")


FUNCTIONS: Final = tuple(_functions())

HELPERS: Final = (
    *(whole, divide, remainder, divide_doubles, lower, upper, int_of_double, int_of_text),
    *(double_of_text, item_at, value_at, given, all_of, any_of),
)
"""What compiled rules may call, besides a few of Python's own."""
