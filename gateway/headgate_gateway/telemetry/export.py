"""Traces on their way to a collector, by OpenTelemetry's own SDK and its OTLP/HTTP exporter.

Nothing of it happens on the event loop: what is put in here is a reference, and a thread makes
spans of it, encodes and sends them. While the collector is away, traces are lost and counted.

Import this module only where traces are exported: the SDK takes 15 MB and 0.3 s.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.span import TraceFlags, TraceState

from headgate_gateway.telemetry.spans import Kind, Told, spans

MOST: Final = 2048
"""Requests that may wait for the thread."""
BATCH: Final = 64
"""Requests that are sent at once; each is about ten spans. Writing them down holds the
interpreter's lock, and so the event loop."""
EVERY: Final = 2.0  # s that a request may wait for others
KINDS: Final[Mapping[Kind, SpanKind]] = {
    "server": SpanKind.SERVER,
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
}
SCOPE: Final = InstrumentationScope("headgate")


class Exporter:
    """Sends traces from a thread of its own.

    Args:
        region: of this gateway.
        instance: tells this process from others.
        endpoint: full URL, with /v1/traces; None: as OpenTelemetry's variables say.
        every: s that a trace waits for others.
        most: traces that may wait.
        timeout: s for sending a batch, with new tries; None: as OpenTelemetry's variables say.
    """

    def __init__(
        self,
        *,
        region: str,
        instance: str,
        endpoint: str | None = None,
        every: float = EVERY,
        most: int = MOST,
        timeout: float | None = None,
    ) -> None:
        self._region = region
        self._resource = _resource(region, instance)
        self._every = every
        self._queue: queue.Queue[Told | None] = queue.Queue(most)
        self._closing = False
        self._exporter: SpanExporter = OTLPSpanExporter(endpoint=endpoint, timeout=timeout)
        self.exported = 0
        """Traces that a collector has taken."""
        self.failed = 0
        """Traces that no collector took."""
        self.dropped = 0
        """Traces for which there was no room."""
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, told: Told) -> None:
        """Let a trace be sent soon. Never waits."""
        try:
            self._queue.put_nowait(told)
        except queue.Full:
            self.dropped += 1

    def close(self, seconds: float = 5.0) -> None:
        """Send what waits, but give up after `seconds`."""
        self._closing = True
        with contextlib.suppress(queue.Full):  # then the thread is busy, and looks when it is not
            self._queue.put_nowait(None)
        self._thread.join(seconds)
        self._exporter.shutdown()

    def _run(self) -> None:
        while not (self._closing and self._queue.empty()):
            batch = self._batch()
            if batch:
                self._send(batch)

    def _batch(self) -> list[Told]:
        """Wait for a trace, and a little for more."""
        batch = [self._queue.get()]
        until = time.monotonic() + self._every
        while len(batch) < BATCH:
            left = 0.0 if self._closing else max(0.0, until - time.monotonic())
            try:
                batch.append(self._queue.get(timeout=left))
            except queue.Empty:
                break
        return [told for told in batch if told is not None]

    def _send(self, batch: Sequence[Told]) -> None:
        made = [span for told in batch for span in _readable(told, self._region, self._resource)]
        if self._exporter.export(made) is SpanExportResult.SUCCESS:
            self.exported += len(batch)
        else:
            self.failed += len(batch)


def _resource(region: str, instance: str) -> Resource:
    ours = {"service.instance.id": instance, "headgate.region": region}
    if "OTEL_SERVICE_NAME" not in os.environ:
        ours["service.name"] = "headgate-gateway"
    return Resource.create(ours)


def _readable(told: Told, region: str, resource: Resource) -> Iterator[ReadableSpan]:
    """Make the SDK's spans of a request."""
    trace = told.trace
    flags, state = TraceFlags(trace.flags), TraceState.from_header([trace.state.decode()])

    def context(span_id: int) -> SpanContext:
        remote = span_id == trace.parent_id
        return SpanContext(trace.trace_id, span_id, remote, flags, state)

    for span in spans(told, region=region):
        yield ReadableSpan(
            name=span.name,
            context=context(span.span_id),
            parent=context(span.parent_id) if span.parent_id else None,
            resource=resource,
            attributes=span.attributes,
            kind=KINDS[span.kind],
            instrumentation_scope=SCOPE,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=span.started,
            end_time=span.ended,
        )
