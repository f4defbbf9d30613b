"""How a process tells what it does, put together from its settings and its environment."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headgate_gateway.settings import Settings
from headgate_gateway.telemetry import logs
from headgate_gateway.telemetry.names import Conventions, conventions
from headgate_gateway.telemetry.trace_context import Sampler
from headgate_gateway.telemetry.tracing import Tracing, exporting


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a gateway needs for telling. As it is: no traces leave, and every request is logged."""

    sampler: Sampler = field(default_factory=Sampler)
    tracing: Tracing = field(default_factory=Tracing)
    conventions: Conventions = "v1.41"
    write: Callable[[bytes], None] | None = logs.write  # None: no line per request

    def close(self) -> None:
        """Send what waits. Takes a few seconds at most."""
        if self.tracing.collector is not None:
            self.tracing.collector.close()


def start(settings: Settings, environment: Mapping[str, str]) -> Telemetry:
    """Begin to tell. Traces are exported from a thread, where an endpoint is known."""
    tracing = Tracing(slow=settings.trace_slow)
    endpoint = settings.trace_endpoint
    if exporting(environment, endpoint):
        from headgate_gateway.telemetry.export import Exporter  # noqa: PLC0415 - takes 15 MB

        tracing.collector = Exporter(
            region=settings.region, instance=socket.gethostname(), endpoint=endpoint
        )
    return Telemetry(
        sampler=Sampler(settings.trace_ratio, settings.trace_follow),
        tracing=tracing,
        conventions=conventions(environment),
        write=logs.write if settings.access_log else None,
    )
