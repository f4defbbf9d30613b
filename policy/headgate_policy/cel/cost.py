"""What an evaluation costs at worst, in steps: about what Python needs for one comparison.

Every word has a bound (words.py), and so has all that is made of words. One step also goes through
ten characters, whatever is done with them.
"""

from itertools import zip_longest
from math import prod
from typing import Final

from headgate_policy.cel.problems import Refused
from headgate_policy.cel.terms import Apply, Choice, Constant, Items, Loop, Read, Term, Variable
from headgate_policy.cel.types import MAP, STRING

_CHARACTERS: Final = 10  # per step
_NUMBER: Final = 24  # characters of a number or bool as a string

Size = tuple[int, ...]
"""Bounds from the outside in: the items of a list, then the characters of each. Else nothing."""


def check_cost(term: Term, budget: int) -> None:
    """Raises `Refused` at the smallest part that costs too much by itself."""
    _Meter(budget).measure(term)


class _Meter:
    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._variables: dict[str, Size] = {}

    def measure(self, term: Term) -> tuple[int, Size]:
        """Give the steps that `term` takes, and the size of its value."""
        steps, size = self._measured(term)
        if steps > self._budget:
            message = f"this may cost {steps:,} steps, {self._budget:,} are allowed"
            raise Refused(term.start, f"{message}; look at less, or at something shorter")
        return steps, size

    def _measured(self, term: Term) -> tuple[int, Size]:
        if isinstance(term, Loop):
            return self._loop(term)
        parts = [self.measure(part) for part in term.parts]
        steps = 1 + sum(taken for taken, _ in parts)
        sizes = [size for _, size in parts]
        size: Size = ()
        match term:
            case Constant(value=str(text)):
                size = (len(text),)
            case Read(word=word, type=kind):
                outer = () if kind.element is None else (word.most,)
                size = (*outer, word.longest) if STRING in (kind, kind.element) else outer
            case Variable(name=name):
                size = self._variables[name]
            case Items():
                size = (len(sizes), *_largest(sizes))
            case Choice():
                size = _largest(sizes[1:])
            case Apply():
                steps += _looked_through(term, sizes)
                size = _made(term, sizes)
            case _:
                pass
        return steps, size

    def _loop(self, term: Loop) -> tuple[int, Size]:
        steps, (count, *item) = self.measure(term.items)
        self._variables = {term.variable: tuple(item)}
        each, made = self.measure(term.body)
        size = {"filter": (count, *item), "map": (count, *made)}.get(term.macro, ())
        return steps + count * (each + 1), size


def _looked_through(term: Apply, sizes: list[Size]) -> int:
    if term.function.name in ("[]", "size") or any(part.type == MAP for part in term.parts):
        return 0
    return sum(-(-prod(size) // _CHARACTERS) for size in sizes if size)


def _made(term: Apply, sizes: list[Size]) -> Size:
    if term.function.name == "[]":
        return sizes[0][1:]
    if term.type != STRING:
        return ()
    if term.function.name == "string":
        return _largest([*sizes, (_NUMBER,)])
    return (sum(size[0] for size in sizes),)


def _largest(sizes: list[Size]) -> Size:
    return tuple(map(max, zip_longest(*sizes, fillvalue=0)))
