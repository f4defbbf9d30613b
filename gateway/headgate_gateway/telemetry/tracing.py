"""Which requests are exported as traces: those that were sampled, failed or were slow.

Spans are made after the answer, so it is not too late then to keep a trace that nobody sampled.
Model servers were told otherwise: of such a trace there are only our own spans.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from headgate_gateway.telemetry.spans import Told
from headgate_gateway.telemetry.trace_context import Trace

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
DISABLED: Final = "OTEL_SDK_DISABLED"
KEPT_PER_SECOND: Final = 50
"""Of those that nobody sampled. When everything fails, telling must not take the CPU as well."""


def exporting(environment: Mapping[str, str], endpoint: str | None) -> bool:
    """Whether traces are to be exported, by our setting or by OpenTelemetry's variables.

    >>> exporting({}, None), exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there:4318"}, None)
    (False, True)
    """
    if environment.get(DISABLED, "").strip().lower() == "true":
        return False
    return endpoint is not None or any(environment.get(name) for name in ENDPOINTS)


class Collector(Protocol):
    """Where traces go: an `Exporter`."""

    exported: int
    failed: int
    dropped: int

    def put(self, told: Told) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Tracing:
    """Of one process."""

    slow: float = 10.0  # s to the first text, or to the end where there was none
    collector: Collector | None = None  # None: nothing is exported
    _second: int = 0  # on the loop's clock
    _kept: int = 0  # in that second, of those that nobody sampled

    @property
    def exported(self) -> int:
        """Traces that a collector took."""
        return self.collector.exported if self.collector is not None else 0

    @property
    def lost(self) -> int:
        """Traces that were worth it and did not get there."""
        collector = self.collector
        return collector.failed + collector.dropped if collector is not None else 0

    def wants(self, trace: Trace, waited: float) -> bool:
        """Whether a request that went well is worth exporting. `waited`: s for the first text."""
        return self.collector is not None and (trace.sampled or waited >= self.slow)

    def end(self, told: Told) -> None:
        """Export a request that is over, if it is worth it."""
        if self.collector is None:
            return
        if told.trace.sampled:
            self.collector.put(told)
        elif told.facts.failed or self._was_slow(told):
            if self._may_keep(told.timeline.started + told.facts.duration_s):
                self.collector.put(told)
            else:
                self.collector.dropped += 1

    def _was_slow(self, told: Told) -> bool:
        first = told.facts.first_token_s
        return (told.facts.duration_s if first is None else first) >= self.slow

    def _may_keep(self, now: float) -> bool:
        second = int(now)
        if second != self._second:
            self._second, self._kept = second, 0
        self._kept += 1
        return self._kept <= KEPT_PER_SECOND
