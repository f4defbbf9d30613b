"""Values, lists and times as people read them."""

from collections.abc import Iterable, Mapping
from typing import Any


def pairs(read: Mapping[str, Any]) -> str:
    return listed(f"{name} is {shown(value)}" for name, value in read.items())


def shown(value: object) -> str:
    match value:
        case None:
            return "not there"
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case dict():
            return "{" + ", ".join(f"{name}: {shown(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return f"[{', '.join(map(shown, value))}]"
        case _:
            return str(value)


def listed(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def span(ms: float) -> str:
    """Write a time as people read it.

    >>> span(0.0421), span(211.7), span(1902.4), span(600_000)
    ('0.0421 ms', '212 ms', '1.9 s', '600 s')
    """
    if ms >= 1000:
        return f"{ms / 1000:.3g} s" if ms < 100_000 else f"{ms / 1000:.0f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.3g} ms" if ms >= 0.0005 else "0 ms"
