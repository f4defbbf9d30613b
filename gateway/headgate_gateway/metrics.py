"""Every metric of the gateway, in one place: names are an interface.

The data path adds to plain numbers that it holds on to; they are read when somebody asks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from headgate_gateway.telemetry.exposition import Exposition
from headgate_gateway.telemetry.genai import Bound, GenAi
from headgate_gateway.telemetry.names import Conventions
from headgate_gateway.telemetry.series import Bounds, Catalog, Count, Spread
from headgate_gateway.telemetry.speculation import SpeculationMetrics

STAGE_BOUNDS: Final[Bounds] = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
TOKEN_BOUNDS: Final[Bounds] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
PACE_BOUNDS: Final[Bounds] = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0)
GAP_BOUNDS: Final[Bounds] = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
REQUEST_BOUNDS: Final[Bounds] = (
    *(0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    *(10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
STABLE: Final = "stable"
"""The arm of what is not on trial."""
MOST_BOUND: Final = 4096
"""Bundles of series to keep at hand. They are made again in microseconds."""

ServedKey: TypeAlias = tuple[str, str, str, str, str, str, str]
"""Namespace, model, variant, route, operation, the name that the client used, and the model's."""


@dataclass(frozen=True, slots=True)
class Served:
    """All series that a finished request of one model adds to, found by one look-up."""

    seconds: Spread
    first_token: Spread
    per_token: Spread
    input: Count
    output: Count
    genai: Bound


class StreamMetrics:
    """Of streams in segments. `route` is a policy's route, as `policy/route`."""

    def __init__(self, catalog: Catalog, p: str) -> None:
        labels = ("namespace", "route")
        self.ended = catalog.counts(
            p + "streams", "Streams in segments, by how they ended.", *labels, "ending"
        )
        self.first_seconds = catalog.spreads(
            p + "time_to_first_segment_seconds",
            "From request to the first segment that means something.",
            TOKEN_BOUNDS,
            *labels,
        )
        self.gap_seconds = catalog.spreads(
            p + "segment_gap_seconds", "Between two segments of a stream.", GAP_BOUNDS, *labels
        )
        self.segments = catalog.counts(
            p + "segments", "Segments of text, by why they ended.", *labels, "cause"
        )
        self.withheld = catalog.counts(
            p + "segments_withheld",
            "Segments that were held when their stream ended, and never given.",
            *labels,
            "reason",
        )
        self.signals = catalog.counts(
            p + "stream_signals", "Streams in which phrases were found.", *labels, "signal"
        )
        self.aborts = catalog.counts(
            p + "stream_aborts",
            "Streams that their client left, by the segments it had.",
            *labels,
            "segments",
        )


class Metrics:
    """The gateway's numbers.

    `model` is a ModelDeployment's name, `route` a RoutingPolicy's or `direct`; tenants are never a
    label, and a family has a ceiling of series (`telemetry.series.MOST`).
    """

    def __init__(self, region: str = "", conventions: Conventions = "v1.41") -> None:
        p = "headgate_gateway_"
        cohort = ("namespace", "model", "variant")
        served = (*cohort, "route", "arm", "region")
        catalog = self.catalog = Catalog()
        self._region = region
        self._served: dict[tuple[str, ...], Served] = {}
        self.requests = catalog.counts(
            p + "requests", "Answers to clients, by HTTP status and reason code.", "status", "code"
        )
        self.refusals = catalog.counts(
            p + "refusals", "Requests that a stage refused, by reason code.", "stage", "code"
        )
        self.attempts = catalog.counts(
            p + "attempts", "Tries against model servers, by how they ended.", *cohort, "result"
        )
        self.retries = catalog.counts(
            p + "retries", "Tries after a failed one, by how that had ended.", "reason"
        )
        self.hedges = catalog.counts(
            p + "hedges", "Second pods asked while the first was silent.", "outcome"
        )
        self.cancellations = catalog.counts(
            p + "cancellations", "Answers that were stopped while being made, by cause.", "cause"
        )
        self.cancel_seconds = catalog.spreads(
            p + "cancel_duration_seconds",
            "From client gone or time over to the closed connection to the model server.",
            STAGE_BOUNDS,
        )
        self.deadline_exceeded = catalog.counts(
            p + "deadline_exceeded", "Requests whose time was over, by where.", "stage"
        )
        self.route_stages = catalog.counts(
            p + "route_stages",
            "Routes tried for requests that may go through several, by how that ended.",
            "route",
            "result",
        )
        self.route_stage_seconds = catalog.spreads(
            p + "route_stage_duration_seconds",
            "How long such a route was tried, to the end of its answer.",
            REQUEST_BOUNDS,
            "route",
        )
        self.ejections = catalog.counts(
            p + "ejections", "Pods set aside because they fail.", "namespace", "model"
        )
        self.tokens = catalog.counts(
            p + "tokens", "Tokens, as model servers count.", *cohort, "direction"
        )
        self.context_dropped = catalog.counts(
            p + "context_dropped",
            "What was left out of input that was too long, by kind.",
            "namespace",
            "model",
            "kind",
        )
        self.context_dropped_tokens = catalog.counts(
            p + "context_dropped_tokens", "Tokens of it.", "namespace", "model"
        )
        self.shadow_matches = catalog.counts(
            p + "shadow_matches", "What a policy in Shadow would refuse.", "namespace", "policy"
        )
        self.bugs = catalog.counts(
            p + "bugs", "Errors that nobody foresaw; the log has a traceback."
        )
        self.stage_seconds = catalog.spreads(
            p + "stage_duration_seconds", "How long a stage took to decide.", STAGE_BOUNDS, "stage"
        )
        self.first_token_seconds = catalog.spreads(
            p + "time_to_first_token_seconds", "From request to text.", TOKEN_BOUNDS, *served
        )
        self.per_token_seconds = catalog.spreads(
            p + "time_per_output_token_seconds",
            "Per token after the first one, of answers that are complete.",
            PACE_BOUNDS,
            *served,
        )
        self.request_seconds = catalog.spreads(
            p + "request_duration_seconds", "From request to end.", REQUEST_BOUNDS, *served
        )
        self.streams = StreamMetrics(catalog, p)
        self.speculation = SpeculationMetrics(catalog, p)
        self.idempotency_requests = catalog.counts(
            p + "idempotency_requests", "Requests with a key, by what became of it.", "result"
        )
        self.idempotency_outcomes = catalog.counts(
            p + "idempotency_outcomes", "Ends of requests that held a key.", "result"
        )
        self.idempotency_claim_seconds = catalog.spreads(
            p + "idempotency_claim_duration_seconds", "How long the store took.", STAGE_BOUNDS
        )
        self.genai = GenAi(catalog, conventions)
        self.settle: Callable[[], None] = lambda: None  # adds what waits to be added
        self.bugs.of()
        self.cancel_seconds.of()
        for outcome in ("started", "won", "lost"):
            self.hedges.of(outcome)
        self.log_lines_lost = catalog.counter(
            p + "log_lines_lost", "Lines of the log that were not written: its reader is slow."
        )
        self.traces_exported = catalog.counter(
            p + "traces_exported", "Traces that a collector took."
        )
        self.traces_lost = catalog.counter(
            p + "traces_lost", "Traces that no collector took, or for which there was no room."
        )
        self.connections = catalog.gauge(p + "connections", "Clients connected.")
        self.certificate_broken = catalog.gauge(
            p + "certificate_broken",
            "1 while the newest certificate cannot be used and an older one is shown.",
        )
        self.calls_in_flight = catalog.gauge(p + "calls_in_flight", "Requests at model servers.")
        self.idempotency_keys_held = catalog.gauge(
            p + "idempotency_keys_held", "Keys whose requests are in work here."
        )
        self.idempotency_file_bytes = catalog.gauge(
            p + "idempotency_file_bytes", "What the embedded store uses of its file."
        )
        self.pods_ready = catalog.gauge(p + "pods_ready", "Model server pods that may be asked.")
        self.snapshot_epoch = catalog.gauge(p + "snapshot_epoch", "Epoch of the snapshot in force.")
        self.snapshot_sequence = catalog.gauge(p + "snapshot_sequence", "Its sequence.")
        self.snapshot_kept_objects = catalog.gauge(
            p + "snapshot_kept_objects", "Objects whose newer version could not be taken."
        )
        self.snapshot_longest_step_seconds = catalog.gauge(
            p + "snapshot_longest_step_seconds",
            "The most CPU time that taking a snapshot took from requests at once.",
        )

    def served(self, key: ServedKey) -> Served:
        """Return the series of finished requests."""
        found = self._served.get(key)
        if found is None:
            if len(self._served) >= MOST_BOUND:
                self._served.clear()
            found = self._served[key] = self._bind(key)
        return found

    def _bind(self, key: ServedKey) -> Served:
        namespace, model, variant, route, operation, asked, public = key
        cohort = (namespace, model, variant)
        labels = (*cohort, route, STABLE, self._region)
        return Served(
            seconds=self.request_seconds.of(*labels),
            first_token=self.first_token_seconds.of(*labels),
            per_token=self.per_token_seconds.of(*labels),
            input=self.tokens.of(*cohort, "input"),
            output=self.tokens.of(*cohort, "output"),
            genai=self.genai.bind(operation, asked, public),
        )

    # To Prometheus

    def exposition(self) -> bytes:
        self.settle()
        told, catalog = Exposition(), self.catalog
        for counts in catalog.counted:
            series = [(values, count.value) for values, count in counts.items()]
            told.numbers("counter", f"{counts.name}_total", counts.text, counts.labels, series)
        for spreads in catalog.spread:
            told.histogram(spreads)
        told.numbers(
            "counter",
            "headgate_gateway_series_overflow_total",
            "What a metric with too many series counted as `other`.",
            ("metric",),
            [((each.name,), each.overflowed) for each in catalog.families if each.labels],
        )
        self.speculation.tell(told)
        for gauge in catalog.gauges:
            told.numbers("gauge", gauge.name, gauge.text, (), [((), gauge.read())])
        for total in catalog.counters:
            told.numbers("counter", f"{total.name}_total", total.text, (), [((), total.read())])
        return told.encode()
