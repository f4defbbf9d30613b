"""Counters and histograms as plain numbers.

The data path holds on to the series that it adds to. Nothing is computed until somebody asks.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

Bounds: TypeAlias = tuple[float, ...]
"""Of a histogram's buckets, ascending; a value on a bound is below it."""
OTHER: Final = "other"
"""Value of every label of the series that takes what is beyond a family's ceiling."""
MOST: Final = 1000
"""Series of a family. A model that is gone keeps its own until the process ends."""


@final
class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        self.value += amount


@final
class Spread:
    """One series of a histogram."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last one: above all bounds
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Collection[float]) -> None:
        """Add many. In order, it takes one search for each bound instead of one for each value."""
        self.total += sum(values)
        counts = self.counts
        if len(values) < len(counts):
            for value in values:
                counts[bisect_left(self.bounds, value)] += 1
            return
        ordered, below = sorted(values), 0
        for number, bound in enumerate(self.bounds):
            end = bisect_right(ordered, bound, below)
            counts[number] += end - below
            below = end
        counts[-1] += len(ordered) - below

    def add(self, other: "Spread") -> None:
        """Add all that another one with the same bounds has observed."""
        for number, count in enumerate(other.counts):
            self.counts[number] += count
        self.total += other.total


Series = TypeVar("Series")


class Family(Generic[Series]):
    """All series of one name, by the values of their labels; never more than `most` and one."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        make: Callable[[], Series],
        *,
        most: int = MOST,
    ) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self.overflowed = 0
        """Look-ups that got the series of all others."""
        self._make = make
        self._most = most
        self._series: dict[tuple[str, ...], Series] = {}

    def of(self, *values: str) -> Series:
        """Return the series with these labels. It exists, at zero, from then on."""
        series = self._series.get(values)
        return series if series is not None else self._new(values)

    def _new(self, values: tuple[str, ...]) -> Series:
        if len(self._series) >= self._most:
            self.overflowed += 1
            values = (OTHER,) * len(self.labels)
        return self._series.setdefault(values, self._make())

    def items(self) -> list[tuple[tuple[str, ...], Series]]:
        return list(self._series.items())


class Reading:
    """A number that is kept elsewhere, and read when somebody asks."""

    __slots__ = ("name", "read", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.read: Callable[[], float] = float


class Catalog:
    """All that is to be told. What is made here is in it."""

    def __init__(self) -> None:
        self.counted: list[Family[Count]] = []
        self.spread: list[Family[Spread]] = []
        self.gauges: list[Reading] = []
        self.counters: list[Reading] = []

    @property
    def families(self) -> list[Family[Any]]:
        return [*self.counted, *self.spread]

    def counts(self, name: str, text: str, *labels: str) -> Family[Count]:
        family = Family(name, text, labels, Count)
        self.counted.append(family)
        return family

    def spreads(self, name: str, text: str, bounds: Bounds, *labels: str) -> Family[Spread]:
        """Make a family of histograms with these bounds."""
        family = Family(name, text, labels, lambda: Spread(bounds))
        self.spread.append(family)
        return family

    def gauge(self, name: str, text: str) -> Reading:
        gauge = Reading(name, text)
        self.gauges.append(gauge)
        return gauge

    def counter(self, name: str, text: str) -> Reading:
        counter = Reading(name, text)
        self.counters.append(counter)
        return counter
