"""What is told to Prometheus, against its own library."""

from collections.abc import Iterator
from math import inf

from hypothesis import given, strategies as st
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from headgate_gateway.metrics import Metrics
from headgate_gateway.telemetry.exposition import CONTENT_TYPE, Exposition
from headgate_gateway.telemetry.series import Family, Spread

LABELS = ("tenant", "model")
BOUNDS = (0.001, 0.5, 1.0, 67108864.0)
VALUES = st.tuples(*(st.text() | st.sampled_from(['a"b', "a\\nb", "\\n"]) for _ in LABELS))
NUMBERS = st.floats(0, 1e15, allow_subnormal=False) | st.sampled_from([0.0, 1e6, inf])


class Told(Collector):
    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def read(text: bytes) -> list[Metric]:
    return list(text_string_to_metric_families(text.decode()))


@given(st.dictionaries(VALUES, NUMBERS, max_size=3), NUMBERS)
def test_numbers_are_as_the_library_writes_them(
    series: dict[tuple[str, ...], float], plain: float
) -> None:
    ours = Exposition()
    ours.numbers("counter", "asked_total", "What was `asked`.", LABELS, list(series.items()))
    ours.numbers("gauge", "held", "Held.", (), [((), plain)])
    counter = CounterMetricFamily("asked", "What was `asked`.", labels=LABELS)
    for values, value in series.items():
        counter.add_metric(values, value)
    gauge = GaugeMetricFamily("held", "Held.", value=plain)

    assert read(generate_latest(Told(counter, gauge))) == read(ours.encode())


@given(st.dictionaries(VALUES, st.lists(st.floats(0, 1e9)), max_size=3))
def test_histograms_are_as_the_library_writes_them(
    series: dict[tuple[str, ...], list[float]],
) -> None:
    family = Family("seconds", "How long.", LABELS, lambda: Spread(BOUNDS))
    theirs = HistogramMetricFamily("seconds", "How long.", labels=LABELS)
    for values, observed in series.items():
        family.of(*values).observe_all(observed)
        below = [sum(each <= bound for each in observed) for bound in (*BOUNDS, inf)]
        names = (*map(str, BOUNDS), "+Inf")
        spread = family.of(*values)
        theirs.add_metric(values, list(zip(names, below, strict=True)), spread.total)
    ours = Exposition()
    ours.histogram(family)

    assert read(generate_latest(Told(theirs))) == read(ours.encode())


def test_every_metric_can_be_read_and_says_what_it_is() -> None:
    metrics = Metrics("here", "v1.41")
    text = metrics.exposition()
    told = read(text)

    assert all(metric.documentation and metric.type != "unknown" for metric in told)
    names = [metric.name for metric in told]
    assert len(names) == len(set(names)) == text.count(b"# TYPE ")
    assert CONTENT_TYPE_LATEST == CONTENT_TYPE
