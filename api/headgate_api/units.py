"""Durations and quantities as people write them in manifests."""

import re
from decimal import Decimal
from typing import Final

DURATION: Final = "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,9}s)?([0-9]{1,9}ms)?$"
"""What a duration looks like (RE2): each unit at most once, falling, and few enough digits that Go
can hold the sum."""
_DURATION: Final = re.compile(DURATION.replace("^", "").replace("$", ""))
_SECONDS: Final = (3600.0, 60.0, 1.0, 0.001)

_QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+))"
    r"(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?"
)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = "KMGTPE"


def parse_duration(text: str) -> float:
    """Read a duration such as `1h30m`, in seconds.

    Raises:
        ValueError: `text` is empty, has another unit, or has the units in another order.

    >>> parse_duration("1h30m"), parse_duration("90s"), parse_duration("250ms")
    (5400.0, 90.0, 0.25)
    >>> parse_duration("5 minutes")
    Traceback (most recent call last):
    ...
    ValueError: "5 minutes" is no duration: write 30s, 15m or 1h30m
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f'"{text}" is no duration: write 30s, 15m or 1h30m')
    amounts = (int((group or "0").rstrip("hms")) for group in match.groups())
    return sum(amount * unit for amount, unit in zip(amounts, _SECONDS, strict=True))


def parse_quantity(text: str) -> Decimal:
    """Read a Kubernetes quantity: a plain number, or one with a decimal or binary suffix.

    Raises:
        ValueError: `text` is no quantity.

    >>> parse_quantity("1Gi"), parse_quantity("500m"), parse_quantity("2"), parse_quantity("1e3")
    (Decimal('1073741824'), Decimal('0.500'), Decimal('2'), Decimal('1E+3'))
    >>> parse_quantity("1 GB")
    Traceback (most recent call last):
    ...
    ValueError: "1 GB" is no quantity: write 1Gi, 500m or 2
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is no quantity: write 1Gi, 500m or 2')
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix.endswith("i"):
        return number * Decimal(1024) ** (_BINARY.index(suffix[0]) + 1)
    if suffix[1:]:
        return number.scaleb(int(suffix[1:]))
    return number.scaleb(_DECIMAL.get(suffix, 0))
