"""Every metric of the gateway, in one place: names are an interface.

The data path adds to plain integers that it holds on to; a collector reads them when somebody asks.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

STAGE_BOUNDS: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
TOKEN_BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
REQUEST_BOUNDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        self.value += amount


class Spread:
    """One series of a histogram."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds  # ascending; a value on a bound is below it
        self.counts = [0] * (len(bounds) + 1)  # the last one: above all bounds
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Series = TypeVar("Series")


class Family(Generic[Series]):
    """All series of one name, by the values of their labels."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        make: Callable[[], Series],
        bounds: Sequence[float] | None = None,
    ) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self.bounds = bounds  # of a histogram
        self._make = make
        self._series: dict[tuple[str, ...], Series] = {}

    def of(self, *values: str) -> Series:
        """Return the series with these labels. It exists, at zero, from then on."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = self._make()
        return series

    def items(self) -> list[tuple[tuple[str, ...], Series]]:
        return list(self._series.items())


@dataclass(slots=True)
class Gauge:
    """A value that is read when somebody asks."""

    name: str
    text: str
    read: Callable[[], float] = lambda: 0.0


def _counts(name: str, text: str, *labels: str) -> Family[Count]:
    return Family(name, text, labels, Count)


def _spreads(name: str, text: str, bounds: Sequence[float], *labels: str) -> Family[Spread]:
    return Family(name, text, labels, lambda: Spread(bounds), bounds)


class Metrics(Collector):
    """The gateway's numbers. `model` is a ModelDeployment's name; tenants are never a label."""

    def __init__(self) -> None:
        p = "headgate_gateway_"
        cohort = ("namespace", "model", "variant")
        self.requests = _counts(
            p + "requests", "Answers to clients, by HTTP status and reason code.", "status", "code"
        )
        self.refusals = _counts(
            p + "refusals", "Requests that a stage refused, by reason code.", "stage", "code"
        )
        self.attempts = _counts(
            p + "attempts", "Tries against model servers, by how they ended.", *cohort, "result"
        )
        self.tokens = _counts(p + "tokens", "Tokens, as model servers count.", *cohort, "direction")
        self.shadow_matches = _counts(
            p + "shadow_matches", "What a policy in Shadow would refuse.", "namespace", "policy"
        )
        self.bugs = _counts(p + "bugs", "Errors that nobody foresaw; the log has a traceback.")
        self.stage_seconds = _spreads(
            p + "stage_duration_seconds", "How long a stage took to decide.", STAGE_BOUNDS, "stage"
        )
        self.first_token_seconds = _spreads(
            p + "time_to_first_token_seconds", "From request to text.", TOKEN_BOUNDS, *cohort
        )
        self.request_seconds = _spreads(
            p + "request_duration_seconds", "From request to end.", REQUEST_BOUNDS, *cohort
        )
        self.bugs.of()
        self.connections = Gauge(p + "connections", "Clients connected.")
        self.calls_in_flight = Gauge(p + "calls_in_flight", "Requests at model servers.")
        self.pods_ready = Gauge(p + "pods_ready", "Model server pods that may be asked.")
        self.snapshot_epoch = Gauge(p + "snapshot_epoch", "Epoch of the snapshot in force.")
        self.snapshot_sequence = Gauge(p + "snapshot_sequence", "Its sequence.")
        self.snapshot_kept_objects = Gauge(
            p + "snapshot_kept_objects", "Objects whose newer version could not be taken."
        )
        self.snapshot_longest_step_seconds = Gauge(
            p + "snapshot_longest_step_seconds",
            "The most CPU time that taking a snapshot took from requests at once.",
        )

    def registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        for member in vars(self).values():
            if isinstance(member, Gauge):
                yield GaugeMetricFamily(member.name, member.text, value=member.read())
            elif isinstance(member, Family):
                yield _counter(member) if member.bounds is None else _histogram(member)


def _counter(family: Family[Count]) -> Metric:
    metric = CounterMetricFamily(family.name, family.text, labels=family.labels)
    for values, count in family.items():
        metric.add_metric(values, count.value)
    return metric


def _histogram(family: Family[Spread]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.text, labels=family.labels)
    for values, spread in family.items():
        buckets, running = [], 0
        for bound, count in zip((*spread.bounds, inf), spread.counts, strict=True):
            running += count
            buckets.append(("+Inf" if bound == inf else str(bound), running))
        metric.add_metric(values, buckets, spread.total)
    return metric
