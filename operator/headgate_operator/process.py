"""The parts of the operator, wired: made here, started in order, stopped together."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import structlog

from headgate_api.errors import Forbidden, Unavailable
from headgate_controllers.contract import Controller, Environment, Found, Key
from headgate_kube.client import Client
from headgate_operator import health
from headgate_operator.cache import View
from headgate_operator.events import Recorder
from headgate_operator.feed import Feed
from headgate_operator.gateways import Ask, Gateways
from headgate_operator.lease import Elector
from headgate_operator.owner import Owners, owners
from headgate_operator.passes import Passes, work
from headgate_operator.prober import AT_ONCE, Probe, Prober
from headgate_operator.publisher import Publisher
from headgate_operator.queue import Queue
from headgate_operator.relist import METADATA, Relist, follow
from headgate_operator.settings import Settings
from headgate_operator.store import Store
from headgate_operator.watch import WATCHED, informed
from headgate_operator.writer import Writer

log = structlog.get_logger(__name__)

Read = TypeVar("Read")
PATIENCE: Final = (1.0, 15.0)  # s; first and longest pause before we read again what we start with


class Stopped(Exception):
    """Ends the group of tasks: somebody asked us to stop."""


class Operator:
    """One process. Standbys watch all that a leader watches, so that they take over warm."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        controllers: Sequence[Controller[Any]],
        *,
        ask: Ask,
        probe: Probe,
    ) -> None:
        self.settings, self.client, self.controllers = settings, client, controllers
        self.port: int | None = None
        """Where /metrics, /healthz and /readyz are, once they are."""
        self._waits = ""
        """Why we cannot read what we start with."""
        clock = asyncio.get_running_loop()
        self.queues = {c.kind: Queue(c.kind, clock) for c in controllers}
        self.probes = Queue("Probe", clock)
        self.store = Store({c.kind: c.index for c in controllers})
        self.elector = Elector(
            client,
            settings.namespace,
            settings.lease,
            settings.identity,
            duration=settings.lease_duration,
            deadline=settings.renew_deadline,
            period=settings.retry_period,
        )
        self.publisher = Publisher(
            client,
            settings.namespace,
            leads=lambda: self.elector.leads,
            holds={c.kind: c.holds for c in controllers},
        )
        self.recorder = Recorder(client, settings.identity, _now)
        self.gateways = Gateways(
            self.publisher,
            self.store,
            ask,
            wake=lambda key: self.queues[key.kind].add(key),
            tell=self.recorder.say,
            clock=time.monotonic,
        )
        self.publisher.published = self.gateways.published
        self.prober = Prober(self.store, self.probes, probe)
        self.feed = Feed(
            self.store, self.view({}), controllers, self.queues, hears=self.prober.heard
        )
        self.prober.wake = self.feed.wake
        namespaces = settings.namespaces
        self.relist = Relist(client, self.feed, WATCHED, namespaces or (None,))
        self._synced = [
            (resource, namespace, asyncio.Event())
            for resource in METADATA
            for namespace in namespaces or (None,)
        ]

    def view(self, documents: Mapping[Key, Found]) -> View:
        return View(self.store, self.publisher, self.gateways, self.prober, documents)

    @property
    def unready(self) -> str:
        """Why the store does not hold the whole cluster yet; empty: it does, also of a standby."""
        if self.relist.listed < 0:
            return self._waits or "the first list is not complete"
        missing = [
            f"{resource.plural} of {namespace or 'all namespaces'}"
            for resource, namespace, synced in self._synced
            if not synced.is_set()
        ]
        return f"not listed yet: {', '.join(missing)}" if missing else ""

    async def run(self, stop: asyncio.Event, *, started: Callable[[], None]) -> None:
        """Run until `stop` is set.

        Args:
            stop: ends everything in order.
            started: called once kopf is; it takes the signal handlers for itself.

        Raises:
            ExceptionGroup: the lease is lost, a CRD is missing, or kopf failed: this process
                must end, and another start is the remedy.
        """
        web = await health.serve(
            self.settings.host,
            self.settings.port,
            unready=lambda: self.unready,
            age=lambda: time.monotonic() - self.relist.listed,
        )
        self.port = web.addresses[0][1]
        namespaces = self.settings.namespaces
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_until(stop))
                tasks.create_task(informed(self.feed, self.client, namespaces, started))
                await self._learn(tasks)
                await self._lead(tasks)
        except* Stopped:
            log.info("stopped")
        finally:
            await self.elector.release()
            await web.cleanup()

    async def _learn(self, tasks: asyncio.TaskGroup) -> None:
        """Get to know the cluster, and keep knowing it."""
        for resource, namespace, synced in self._synced:
            tasks.create_task(follow(self.feed, self.client, resource, namespace, synced))
        await self._patiently(self.relist.all)
        for *_, synced in self._synced:
            await synced.wait()
        tasks.create_task(self.relist.run())
        log.info("ready", objects={kind: len(self.store.uids(kind)) for kind in self.queues})

    async def _lead(self, tasks: asyncio.TaskGroup) -> None:
        """Wait to be elected, then do all that only one may do."""
        self.elector.owners = self.publisher.owners = await self._patiently(self._owners)
        await self.elector.acquire(self.publisher.next_epoch)
        tasks.create_task(self.elector.hold())
        await self._patiently(self.publisher.load)
        tasks.create_task(self.publisher.run(self.elector.epoch))
        tasks.create_task(self.publisher.guard(self.client))
        tasks.create_task(self.gateways.follow(self.client, self.settings.namespace))
        tasks.create_task(self.gateways.run())
        for controller in self.controllers:
            passes = self._passes(controller)
            for _ in range(self.settings.workers):
                tasks.create_task(work(passes.queue, passes.run))
        for _ in range(AT_ONCE):
            tasks.create_task(work(self.probes, self.prober.run))
        self.feed.start(self.publisher.keys())

    async def _patiently(self, read: Callable[[], Awaitable[Read]]) -> Read:
        """Try until it works: the API server may come up, or a right be granted, after we start."""
        pause, longest = PATIENCE
        while True:
            try:
                found = await read()
            except (Forbidden, Unavailable) as error:
                if self._waits != str(error):
                    log.warning("waiting for the API server", error=str(error))
                self._waits = str(error)
                await asyncio.sleep(pause)
                pause = min(longest, 2 * pause)
            else:
                self._waits = ""
                return found

    async def _owners(self) -> Owners:
        return await owners(self.client, self.settings.namespace, self.settings.owner)

    def _passes(self, controller: Controller[Any]) -> Passes[Any]:
        settings = self.settings
        return Passes(
            controller,
            Environment(
                region=settings.region,
                image=settings.runtime_image,
                namespace=settings.namespace,
                url=settings.gateway_url,
                trtllm_serve_image=settings.trtllm_serve_image,
            ),
            self.client,
            self.view,
            Writer(self.client, self.store, self.feed),
            self.publisher,
            self.recorder,
            self.queues[controller.kind],
            _now,
        )


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()
    raise Stopped


def _now() -> datetime:
    return datetime.now(UTC)
