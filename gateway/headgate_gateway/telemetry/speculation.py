"""What is counted of guessing ahead, by names that are an interface: see `Metrics`."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from headgate_gateway.telemetry.exposition import Exposition
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

    def tell(self, told: Exposition) -> None:
        """Write what is known of each place. What is not known has no series."""
        labels = ("namespace", "route", "model", "variant")
        p, judged = self._p, list(self.judged())
        on = [(each.place, float(each.worth)) for each in judged]
        told.numbers("gauge", p + "on", "1 while guessing is worth it.", labels, on)
        accepted = [(e.place, e.acceptance / 100) for e in judged if e.acceptance is not None]
        told.numbers(
            "gauge", p + "acceptance_ratio", "Guessed tokens that were accepted.", labels, accepted
        )
        saved = [(each.place, each.benefit / 100) for each in judged if each.benefit is not None]
        told.numbers(
            "gauge", p + "benefit_ratio", "Time per token that guessing saved.", labels, saved
        )
