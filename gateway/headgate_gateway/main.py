"""The gateway's process: reads settings, follows the API server, serves, drains on SIGTERM."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any, Final

import structlog
import uvloop

from headgate_gateway.access import KubernetesAccess
from headgate_gateway.admin import AdminServer, application
from headgate_gateway.calls.call import Patience
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.tls import Certificate
from headgate_gateway.follow import PodFollower, SnapshotFollower
from headgate_gateway.gateway import Gateway
from headgate_gateway.idempotency.choose import chosen_store
from headgate_gateway.routing.pods import Pods
from headgate_gateway.settings import Settings, read_settings
from headgate_gateway.snapshot_files import SnapshotFiles
from headgate_gateway.telemetry import setup
from headgate_gateway.telemetry.logs import configure_logs
from headgate_kube.client import Client

log = structlog.get_logger(__name__)

ACCEPT_SECONDS: Final = 5.0
"""For so long after SIGTERM others may still send requests here: endpoints take time to spread."""
SWITCH: Final = 0.0005  # s a thread may hold up the event loop


def main() -> None:
    settings = read_settings()
    configure_logs()
    sys.setswitchinterval(SWITCH)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client = await Client.connect(user_agent="headgate-gateway")
    try:
        await Process(settings, client).run(stop)
    finally:
        await client.close()


class Process:
    """Everything that runs side by side."""

    def __init__(
        self, settings: Settings, client: Client, *, accept_seconds: float = ACCEPT_SECONDS
    ) -> None:
        self._settings = settings
        self._accept_seconds = accept_seconds
        self._was_current = False
        self._telemetry = setup.start(settings, os.environ)
        pods = Pods()
        self.gateway = Gateway(
            region=settings.region,
            pods=pods,
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
        )
        self.snapshot = SnapshotFollower(
            client,
            settings.namespace,
            self.gateway.snapshots,
            SnapshotFiles(settings.snapshot_dir),
        )
        self.pods = PodFollower(client, settings.namespaces, pods)
        app = application(
            snapshots=self.gateway.snapshots,
            feedback=self.gateway.feedback,
            registry=self.gateway.metrics.registry(),
            requests=self.gateway.requests_in_flight,
            unready=self._unready,
            authorize=KubernetesAccess(client, time.monotonic),
        )
        self.admin = AdminServer(app, settings.admin_port)
        self.certificate: Certificate | None = None
        if settings.tls_dir is not None:
            certificate = self.certificate = Certificate(settings.tls_dir)
            broken = self.gateway.metrics.certificate_broken
            broken.read = lambda: float(certificate.problem != "")

    async def run(self, stop: asyncio.Event) -> None:
        await self.snapshot.restore()
        endless = [self._start(self.snapshot.run()), self._start(self.pods.run())]
        tls = None
        if self.certificate is not None:
            endless.append(self._start(self.certificate.watch()))
            tls = self.certificate.context
        tasks = [*endless, self._start(self.admin.serve())]
        await self.gateway.edge.listen("", self._settings.port, tls)
        log.info("serving", port=self._settings.port, admin_port=self._settings.admin_port)
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        await self.gateway.drain(self._accept_seconds, self._settings.drain)
        self.admin.should_exit = True
        for task in endless:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._telemetry.close)
        log.info("stopped")
        for task, result in zip(tasks, results, strict=True):
            if task in done and isinstance(result, Exception):
                raise result  # something that should run for ever did not: let the pod restart

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def _unready(self) -> str:
        """Why no request should be sent here; empty: none.

        Only a gateway that never ran the current snapshot is kept out. One that falls behind later
        serves the last good one: a snapshot that nobody can read must not take out all gateways.
        """
        if self.gateway.edge.draining:
            return "draining"
        self._was_current = self._was_current or self.snapshot.current
        if not self._was_current:
            return f"the current snapshot is not in force {self.snapshot.problem}".strip()
        if not self.pods.current:
            return "the pods have not been listed yet"
        return ""
