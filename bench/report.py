"""How a benchmark reports: a table of ratios for people, then one JSON line for machines."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

WIDTH: Final = 46


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value, with what it is held against."""

    name: str
    value: float
    unit: str
    goal: float | None = None  # not above; None: told, not judged
    floor: float | None = None  # not below
    yardstick: float | None = None  # the same work done by the bare thing, in the same run
    spread: Sequence[float] = ()  # the samples that `value` sums up

    @property
    def missed(self) -> bool:
        above = self.goal is not None and self.value > self.goal
        return above or (self.floor is not None and self.value < self.floor)

    @property
    def row(self) -> str:
        goal = "" if self.goal is None else f"{self.goal:g}"
        if self.floor is not None:
            goal = f">{self.floor:g}"
        stick = "" if self.yardstick is None else f"{self.yardstick:.3g}"
        ratio = f"{self.value / self.yardstick:.2f}" if self.yardstick else ""
        spread = " / ".join(f"{value:.3g}" for value in self.percentiles.values())
        verdict = "  MISSED" if self.missed else ""
        return (
            f"{self.name:<{WIDTH}}{self.value:>9.3g} {self.unit:<7}{goal:>6}{stick:>10}{ratio:>7}"
            f"   {spread}{verdict}"
        )

    @property
    def percentiles(self) -> dict[str, float]:
        if not self.spread:
            return {}
        return {
            "p50": percentile(self.spread, 0.5),
            "p99": percentile(self.spread, 0.99),
            "max": max(self.spread),
        }

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "unit": self.unit,
            "goal": self.goal,
            "floor": self.floor,
            "yardstick": self.yardstick,
            "samples": len(self.spread),
            **self.percentiles,
        }


def markdown(figures: Sequence[Figure]) -> str:
    """Write the table as the manual has it."""
    rows = ["| figure | goal | value | yardstick | ratio |", "|---|---|---|---|---|"]
    for figure in figures:
        goal = "" if figure.goal is None else f"≤ {figure.goal:,g} {figure.unit}"
        if figure.floor is not None:
            goal = f"≥ {figure.floor:,g} {figure.unit}"
        value = f"{_short(figure.value)} {figure.unit}" + (", missed" if figure.missed else "")
        stick = "" if figure.yardstick is None else _short(figure.yardstick)
        ratio = f"{figure.value / figure.yardstick:.1f}" if figure.yardstick else ""
        rows.append(f"| {figure.name.strip()} | {goal} | {value} | {stick} | {ratio} |")
    return "\n".join(rows)


def _short(value: float) -> str:
    """Write three digits of a number, or all of those before its point.

    >>> _short(12345.6), _short(81.94), _short(0.2349)
    ('12,346', '81.9', '0.235')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


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
    head = f"{'':<{WIDTH}}{'value':>9} {'unit':<7}{'goal':>6}{'yardstick':>10}{'ratio':>7}"
    print(f"{head}   p50 / p99 / max")
    for figure in figures:
        print(figure.row)
    line = {
        "bench": bench,
        **facts,
        "figures": {figure.name: figure.facts for figure in figures},
        "missed": [figure.name for figure in figures if figure.missed],
    }
    print(json.dumps(line))
