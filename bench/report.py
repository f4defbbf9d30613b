"""How a benchmark reports: a table of ratios for people, then one JSON line for machines."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value, with what it is held against."""

    name: str
    value: float
    unit: str
    goal: float | None = None  # not above; None: told, not judged
    yardstick: float | None = None  # the same work done by the bare thing, in the same run

    @property
    def missed(self) -> bool:
        return self.goal is not None and self.value > self.goal


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed.

    >>> percentile([3.0, 1.0, 2.0, 4.0], 0.5)
    2.0
    >>> percentile([3.0, 1.0, 2.0, 4.0], 0.99)
    4.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def report(bench: str, figures: Sequence[Figure], **facts: Any) -> None:
    """Print the table and the line."""
    print(f"{'figure':<44}{'value':>10} {'unit':<10}{'goal':>8}  {'yardstick':>10}{'ratio':>8}")
    for f in figures:
        goal = "" if f.goal is None else f"{f.goal:g}"
        stick = "" if f.yardstick is None else f"{f.yardstick:.3g}"
        ratio = f"{f.value / f.yardstick:.2f}" if f.yardstick else ""
        verdict = "  MISSED" if f.missed else ""
        print(f"{f.name:<44}{f.value:>10.3g} {f.unit:<10}{goal:>8}  {stick:>10}{ratio:>8}{verdict}")
    line = {
        "bench": bench,
        **facts,
        "figures": {
            f.name: {"value": f.value, "unit": f.unit, "goal": f.goal, "yardstick": f.yardstick}
            for f in figures
        },
        "missed": [f.name for f in figures if f.missed],
    }
    print(json.dumps(line))
