"""Plain classes that are compared, shown and copied by what they were made of.

What is made for every event has an `__init__` of its own, which dataclasses and structs do not
have: it is much faster where it is compiled.
"""

from typing import Any, TypeVar

V = TypeVar("V", bound="Value")


class Value:
    """Its `__match_args__` name what `__init__` takes, and what it is kept as."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _fields(self) == _fields(other)

    def __hash__(self) -> int:
        return hash(tuple(_fields(self).values()))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in _fields(self).items())
        return f"{type(self).__name__}({said})"


def replaced(value: V, **changes: Any) -> V:
    """Make one like `value`, but for what is changed."""
    return type(value)(**{**_fields(value), **changes})


def _fields(value: object) -> dict[str, Any]:
    names: tuple[str, ...] = type(value).__match_args__  # type: ignore[attr-defined]
    return {name: getattr(value, name) for name in names}
