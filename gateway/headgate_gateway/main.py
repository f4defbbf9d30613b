"""The gateway's process: reads settings, follows a source of policy, serves, drains on SIGTERM."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import Any, Final, Protocol

import structlog
import uvloop

from headgate_gateway import garbage
from headgate_gateway.admin import Admin, Authorize, admin_port
from headgate_gateway.calls.ask import Patience
from headgate_gateway.context.tokenizers import TokenizerFiles
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.tls import Certificate
from headgate_gateway.explain.ring import Ring
from headgate_gateway.gateway import Gateway
from headgate_gateway.idempotency.choose import chosen_store
from headgate_gateway.routing.pods import Pods
from headgate_gateway.settings import Settings, read_settings
from headgate_gateway.telemetry import setup
from headgate_gateway.telemetry.logs import configure_logs

log = structlog.get_logger(__name__)

ACCEPT_SECONDS: Final = 5.0
"""For so long after SIGTERM others may still send requests here: endpoints take time to spread."""
LINGER: Final = 2.0
"""For so long what is asked of the admin port at the very end may still be answered."""
SWITCH: Final = 0.0005  # s a thread may hold up the event loop


class Source(Protocol):
    """Where the snapshot and the pods come from."""

    async def restore(self) -> None:
        """Do what must be done before anybody is served."""

    async def run(self) -> None:
        """Keep both current, for ever."""

    def unready(self) -> str:
        """Tell why no request should be sent here; empty: none."""


def main() -> None:
    settings = read_settings()
    run(serve(settings))


def run(work: Coroutine[Any, Any, None]) -> None:
    """Do the work of a whole process."""
    configure_logs()
    sys.setswitchinterval(SWITCH)
    garbage.by_hand()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def serve(settings: Settings) -> None:
    """Serve what the API server tells until SIGTERM or SIGINT, then drain."""
    # Only who has a cluster pays for its client: 12 MiB.
    from headgate_gateway.access import KubernetesAccess  # noqa: PLC0415
    from headgate_gateway.follow import Cluster  # noqa: PLC0415
    from headgate_kube.client import Client  # noqa: PLC0415

    client = await Client.connect(user_agent="headgate-gateway")
    try:
        process = Process(
            settings,
            lambda gateway: Cluster(client, settings, gateway.snapshots, gateway.pods),
            KubernetesAccess(client, time.monotonic),
        )
        await process.run(stopping())
    finally:
        await client.close()


def fetch(hosts: Collection[str], url: str, most: int) -> bytes:
    """Get what is at a URL: see `Egress`."""
    # Only who names a tokenizer that is elsewhere pays for a client and its certificates: 4 MiB.
    from headgate_gateway.context.egress import Egress  # noqa: PLC0415

    return Egress(hosts).fetch(url, most)


def stopping() -> asyncio.Event:
    """Be told of SIGTERM and SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


class Process:
    """Everything that runs side by side.

    Args:
        settings: of the process.
        source: from the gateway to what feeds it.
        authorize: guards the admin port.
        host: address to listen on; empty: all of them.
        accept_seconds: for how long requests are served after the stop.
    """

    def __init__(
        self,
        settings: Settings,
        source: Callable[[Gateway], Source],
        authorize: Authorize,
        *,
        host: str = "",
        accept_seconds: float = ACCEPT_SECONDS,
    ) -> None:
        self._settings = settings
        self._accept_seconds = accept_seconds
        self._host = host
        self._telemetry = setup.start(settings, os.environ)
        self.gateway = Gateway(
            region=settings.region,
            pods=Pods(),
            limits=Limits(
                body_bytes=settings.max_body_bytes, bodies_bytes=settings.max_bodies_bytes
            ),
            patience=Patience(
                connect=settings.connect_timeout,
                beat=settings.heartbeat,
            ),
            most=settings.max_requests,
            default_max_tokens=settings.default_max_tokens,
            telemetry=self._telemetry,
            keys=chosen_store(settings),
            answer_bytes=settings.idempotency_answer_bytes,
            load_tokenizer=TokenizerFiles(
                settings.tokenizer_dir, partial(fetch, settings.allowed_hosts)
            ).load,
            explanations=Ring(settings.explain_requests, settings.explain_seconds),
        )
        self.source = source(self.gateway)
        admin = Admin(
            snapshots=self.gateway.snapshots,
            feedback=self.gateway.feedback,
            metrics=self.gateway.metrics.exposition,
            requests=self.gateway.requests_in_flight,
            explain=self.gateway.explain,
            unready=self._unready,
            authorize=authorize,
        )
        self.admin = admin_port(admin)
        self.certificate: Certificate | None = None
        if settings.tls_dir is not None:
            certificate = self.certificate = Certificate(settings.tls_dir)
            broken = self.gateway.metrics.certificate_broken
            broken.read = lambda: float(certificate.problem != "")

    async def run(self, stop: asyncio.Event) -> None:
        await self.source.restore()
        requests = self.gateway.inference.requests
        endless = [
            self._start(garbage.watch(lambda: len(requests))),
            self._start(self.source.run()),
        ]
        tls = None
        if self.certificate is not None:
            endless.append(self._start(self.certificate.watch()))
            tls = self.certificate.context
        await self.gateway.edge.listen(self._host, self._settings.port, tls)
        await self.admin.listen(self._host, self._settings.admin_port)
        log.info("serving", port=self._settings.port, admin_port=self._settings.admin_port)
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopped, *endless], return_when=asyncio.FIRST_COMPLETED)
        await self.gateway.drain(self._accept_seconds, self._settings.drain)
        self.admin.drain()
        self.admin.close_listener()
        if not await self.admin.emptied(LINGER):
            self.admin.abort()
        for task in endless:
            task.cancel()
        results = await asyncio.gather(*endless, return_exceptions=True)
        await asyncio.to_thread(self._telemetry.close)
        log.info("stopped")
        for task, result in zip(endless, results, strict=True):
            if task in done and isinstance(result, Exception):
                raise result  # something that should run for ever did not: let the pod restart

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def _unready(self) -> str:
        return "draining" if self.gateway.edge.draining else self.source.unready()
