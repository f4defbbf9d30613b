"""What is counted of guessing ahead, by names that are an interface: see `Metrics`."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from prometheus_client.core import GaugeMetricFamily, Metric

from headgate_gateway.telemetry.series import Catalog

Place: TypeAlias = tuple[str, str, str, str]
"""Where guessing is judged: namespace, `policy/route`, model, and the variants that guess."""


class Judged(NamedTuple):
    """What is known of guessing ahead in one place."""

    place: Place
    worth: bool
    acceptance: float | None
    """In percent, as the next one."""
    benefit: float | None


class SpeculationMetrics:
    """Of pods that guess ahead, and of routes that choose between them and plain ones."""

    def __init__(self, catalog: Catalog, p: str) -> None:
        self._p = p + "speculation_"
        self.judged: Callable[[], Iterable[Judged]] = tuple
        self.decisions = catalog.counts(
            self._p + "decisions",
            "Requests of routes with `speculative`, by where they went and why.",
            *("namespace", "route", "outcome", "reason"),
        )
        self.draft_tokens = catalog.counts(
            self._p + "draft_tokens",
            "Tokens that were guessed, by what the model made of them.",
            *("namespace", "model", "variant", "result"),
        )

    def gauges(self) -> Iterator[Metric]:
        labels = ("namespace", "route", "model", "variant")
        p = self._p
        on = GaugeMetricFamily(p + "on", "1 while guessing is worth it.", labels=labels)
        acceptance = GaugeMetricFamily(
            p + "acceptance_ratio", "Guessed tokens that were accepted.", labels=labels
        )
        benefit = GaugeMetricFamily(
            p + "benefit_ratio", "Time per token that guessing saved.", labels=labels
        )
        for place, worth, accepted, saved in self.judged():
            on.add_metric(place, worth)
            if accepted is not None:
                acceptance.add_metric(place, accepted / 100)
            if saved is not None:
                benefit.add_metric(place, saved / 100)
        yield from (on, acceptance, benefit)
