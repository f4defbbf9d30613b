"""What kinds of values there are."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Type:
    name: str
    element: "Type | None" = None  # of a list, or what a map has under each key

    def __str__(self) -> str:
        return f"{self.name}({self.element})" if self.element else self.name

    @property
    def phrase(self) -> str:
        return f"{'an' if self is INT else 'a'} {self}"


BOOL: Final = Type("bool")
INT: Final = Type("int")
DOUBLE: Final = Type("double")
STRING: Final = Type("string")
MAP: Final = Type("map", STRING)
ANY_LIST: Final = Type("list")

NUMBERS: Final = (INT, DOUBLE)


def list_of(element: Type) -> Type:
    return Type("list", element)


def comparable(one: Type, other: Type) -> bool:
    """Tell whether `==` has a meaning. Ints and doubles are compared as the numbers they are."""
    if one.name == other.name == "list" and one.element and other.element:
        return comparable(one.element, other.element)
    return one == other or (one in NUMBERS and other in NUMBERS)


def fits(parameter: Type, argument: Type) -> bool:
    return parameter == argument or (parameter == ANY_LIST and argument.name == "list")
