"""What the operator learns from a gateway: cumulative counters per cohort, as compact JSON.

The operator subtracts what it read before. `process` tells it that the counters began anew.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from headgate_gateway.calls.events import Usage
from headgate_gateway.metrics import TOKEN_BOUNDS
from headgate_gateway.telemetry.series import Spread

MOST: Final = 4096
"""Cohorts; every change of a model makes a new one, and the old ones never count again."""
NAMES: Final = ("namespace", "model", "cohort")


@dataclass(slots=True)
class CohortCounts:
    """Of one cohort, since the process started. Answered and failed calls add up to all ended."""

    answered: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_token: Spread = field(default_factory=partial(Spread, TOKEN_BOUNDS))


class Feedback:
    def __init__(self, process: str) -> None:
        self._process = process
        self.settle: Callable[[], None] = lambda: None  # adds what waits to be added
        self._cohorts: dict[tuple[str, str, str], CohortCounts] = {}

    def of(self, namespace: str, model: str, cohort: str) -> CohortCounts:
        """Return the counts of a cohort. Those of the cohort that rested longest make room."""
        names = (namespace, model, cohort)
        counts = self._cohorts.pop(names, None) or CohortCounts()
        self._cohorts[names] = counts  # as the last one
        if len(self._cohorts) > MOST:
            del self._cohorts[next(iter(self._cohorts))]
        return counts

    def body(self) -> bytes:
        self.settle()
        cohorts = [
            {
                **dict(zip(NAMES, names, strict=True)),
                "answered": counts.answered,
                "failed": counts.failed,
                "input_tokens": counts.input_tokens,
                "output_tokens": counts.output_tokens,
                "first_token": counts.first_token.counts,
                "first_token_sum": round(counts.first_token.total, 6),
            }
            for names, counts in list(self._cohorts.items())
        ]
        told = {"process": self._process, "first_token_bounds": TOKEN_BOUNDS, "cohorts": cohorts}
        return msgspec.json.encode(told)


def count(
    counts: CohortCounts, *, failed: bool, first_token: float | None, usage: Usage | None
) -> None:
    """Add one ended call. One that its client ended is neither answered nor failed."""
    if usage is not None:
        counts.answered += 1
        counts.input_tokens += usage.input_tokens
        counts.output_tokens += usage.output_tokens
    elif failed:
        counts.failed += 1
    if first_token is not None:
        counts.first_token.observe(first_token)


def count_all(
    counts: CohortCounts, first_tokens: Collection[float], usages: Sequence[Usage]
) -> None:
    """Add calls that were answered."""
    counts.answered += len(usages)
    counts.input_tokens += sum(usage.input_tokens for usage in usages)
    counts.output_tokens += sum(usage.output_tokens for usage in usages)
    counts.first_token.observe_all(first_tokens)
