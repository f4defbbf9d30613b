"""The same facts under the names of OpenTelemetry's conventions, for dashboards that know those.

`gen_ai_request_model` is what clients wrote and `gen_ai_response_model` the public name of the
ModelDeployment that answered; they differ behind a RoutingPolicy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from headgate_gateway.calls.events import Usage
from headgate_gateway.telemetry import names
from headgate_gateway.telemetry.names import Conventions, prometheus
from headgate_gateway.telemetry.series import Catalog, Spread

# As the conventions advise.
DURATION_BOUNDS: Final = tuple(0.01 * 2**n for n in range(14))
FIRST_BOUNDS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TOKEN_BOUNDS: Final = (*(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),)
USAGE_BOUNDS: Final = tuple(4.0**n for n in range(14))
COMMON: Final = tuple(
    map(
        prometheus,
        (names.OPERATION_NAME, names.PROVIDER_NAME, names.REQUEST_MODEL, names.RESPONSE_MODEL),
    )
)
TOKEN_TYPE: Final = prometheus(names.TOKEN_TYPE)
TOKEN_MODALITY: Final = prometheus(names.TOKEN_MODALITY)
ERROR_TYPE: Final = prometheus(names.ERROR_TYPE)

AddUsages: TypeAlias = Callable[[Sequence[Usage | None]], None]
"""Told once of each request that went to a model server; None: nothing is known."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The series of one model, as asked for and as it answered."""

    labels: tuple[str, ...]
    duration: Spread  # of those that went well
    first: Spread
    per_token: Spread
    add_usages: AddUsages


class GenAi:
    def __init__(self, catalog: Catalog, conventions: Conventions) -> None:
        seconds = "_seconds"
        self.duration = catalog.spreads(
            prometheus(names.SERVER_REQUEST_DURATION) + seconds,
            "From request to end.",
            DURATION_BOUNDS,
            *COMMON,
            ERROR_TYPE,
        )
        self.first = catalog.spreads(
            prometheus(names.SERVER_TIME_TO_FIRST_TOKEN) + seconds,
            "From request to text, of answers that are complete.",
            FIRST_BOUNDS,
            *COMMON,
        )
        self.per_token = catalog.spreads(
            prometheus(names.SERVER_TIME_PER_OUTPUT_TOKEN) + seconds,
            "Per token after the first one, of answers that are complete.",
            TOKEN_BOUNDS,
            *COMMON,
        )
        latest = conventions == "latest"
        self._usage = _LatestUsage(catalog) if latest else _Usage(catalog)

    def bind(self, operation: str, request_model: str, response_model: str) -> Bound:
        labels = (operation, names.PROVIDER, request_model, response_model)
        return Bound(
            labels,
            self.duration.of(*labels, ""),
            self.first.of(*labels),
            self.per_token.of(*labels),
            self._usage.bind(labels),
        )


class _Usage:
    """Of conventions 1.41: one histogram. What is not known is not told."""

    def __init__(self, catalog: Catalog) -> None:
        name = prometheus(names.CLIENT_TOKEN_USAGE)
        self.tokens = catalog.spreads(
            name, "Tokens of a request.", USAGE_BOUNDS, *COMMON, TOKEN_TYPE
        )

    def bind(self, labels: tuple[str, ...]) -> AddUsages:
        given, made = self.tokens.of(*labels, "input"), self.tokens.of(*labels, "output")

        def add(usages: Sequence[Usage | None]) -> None:
            known = [usage for usage in usages if usage is not None]
            given.observe_all([usage.input_tokens for usage in known if not usage.estimated])
            made.observe_all([usage.output_tokens for usage in known])

        return add


class _LatestUsage:
    """Of the latest: counters of what was spent, and histograms of how it spreads over requests."""

    def __init__(self, catalog: Catalog) -> None:
        usage, operation = prometheus(names.INFERENCE_USAGE), prometheus(names.INFERENCE_OPERATION)
        labels = (*COMMON, TOKEN_MODALITY)
        self.given = catalog.counts(f"{usage}_input_tokens", "Tokens read.", *labels)
        self.made = catalog.counts(f"{usage}_output_tokens", "Tokens generated.", *labels)
        self.cached = catalog.counts(f"{usage}_cache_read_input_tokens", "Of those read.", *labels)
        self.thought = catalog.counts(
            f"{usage}_reasoning_output_tokens", "Of those generated.", *labels
        )
        self.given_spread = catalog.spreads(
            f"{operation}_input_tokens", "Tokens read for a request.", USAGE_BOUNDS, *COMMON
        )
        self.made_spread = catalog.spreads(
            f"{operation}_output_tokens", "Tokens generated for it.", USAGE_BOUNDS, *COMMON
        )

    def bind(self, labels: tuple[str, ...]) -> AddUsages:
        text = (*labels, "text")
        given, made = self.given.of(*text), self.made.of(*text)
        given_spread, made_spread = self.given_spread.of(*labels), self.made_spread.of(*labels)

        def add_one(usage: Usage | None) -> None:
            if usage is None:
                # Not "nothing": nobody knows. The conventions want the series to exist.
                self.given.of(*labels, "unknown")
                self.made.of(*labels, "unknown")
                return
            if not usage.estimated:
                given.add(usage.input_tokens)
                given_spread.observe(usage.input_tokens)
            made.add(usage.output_tokens)
            made_spread.observe(usage.output_tokens)
            if usage.cached_tokens is not None:
                self.cached.of(*text).add(usage.cached_tokens)
            if usage.reasoning_tokens is not None:
                self.thought.of(*text).add(usage.reasoning_tokens)

        def add(usages: Sequence[Usage | None]) -> None:
            for usage in usages:
                add_one(usage)

        return add
