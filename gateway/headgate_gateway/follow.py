"""Keeps the gateway's view of the cluster current: the snapshot, and the model servers' pods."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog

from headgate_api.errors import HeadgateError, TerminalError
from headgate_api.labels import MODEL_SERVER, PART
from headgate_api.snapshot import POINTER, POINTER_KEY, SHARD_KEY, Digest, Pointer
from headgate_gateway.routing.pods import Pods
from headgate_gateway.settings import Settings
from headgate_gateway.snapshot_files import SnapshotFiles, SnapshotKeeper
from headgate_gateway.snapshots import Snapshots
from headgate_kube.client import Client
from headgate_kube.resources import CONFIG_MAPS, PODS
from headgate_kube.watch import Gone, Put, Synced, watch
from headgate_policy.snapshot import decode_pointer, digest_of

log = structlog.get_logger(__name__)

AT_FIRST: Final = 16  # shards fetched side by side while nothing is in force
AT_ONCE: Final = 1  # and later: each answer is a step of work, and requests wait for all at once
FIRST_PAUSE: Final = 0.2  # s, doubled after each failure in a row
LONGEST_PAUSE: Final = 5.0  # s


class Cluster:
    """What an API server tells: the source of a gateway in a cluster."""

    def __init__(
        self, client: Client, settings: Settings, snapshots: Snapshots, pods: Pods
    ) -> None:
        files = SnapshotFiles(settings.snapshot_dir)
        self.snapshot = SnapshotFollower(client, settings.namespace, snapshots, files)
        self.pods = PodFollower(client, settings.namespaces, pods)
        self._was_current = False

    async def restore(self) -> None:
        await self.snapshot.restore()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.snapshot.run())
            group.create_task(self.pods.run())

    def unready(self) -> str:
        """Tell why no request should be sent here; empty: none.

        Only a gateway that never ran the current snapshot is kept out. One that falls behind later
        serves the last good one: a snapshot that nobody can read must not take out all gateways.
        """
        self._was_current = self._was_current or self.snapshot.current
        if not self._was_current:
            return f"the current snapshot is not in force {self.snapshot.problem}".strip()
        if not self.pods.current:
            return "the pods have not been listed yet"
        return ""


class SnapshotFollower:
    """Runs the newest snapshot that the API server has, and keeps it on the volume."""

    def __init__(
        self, client: Client, namespace: str, snapshots: Snapshots, files: SnapshotFiles
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._snapshots = snapshots
        self._files = files
        self._keeper = SnapshotKeeper(files)
        self._seen: Mapping[str, Any] | None = None  # the newest pointer, not in force yet
        self._news = asyncio.Event()
        self._told = False  # the API server has said what there is
        self.problem = ""
        """Why the newest snapshot cannot run; empty: it does, or there is none."""

    @property
    def current(self) -> bool:
        """Whether the newest snapshot runs, as far as the API server has told."""
        return self._told and self._seen is None and self._snapshots.confirmed

    async def restore(self) -> None:
        """Have the snapshot on the volume at hand, so that its shards need not be fetched again."""
        found = await asyncio.to_thread(self._files.load)
        if found is not None:
            try:
                await self._snapshots.swap(*found, provisional=True)
            except TerminalError as error:
                log.warning("the snapshot on the volume cannot be read", error=str(error))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._work())
            group.create_task(self._keeper.run())

    async def _watch(self) -> None:
        fields = f"metadata.name={POINTER}"
        changes = watch(self._client, CONFIG_MAPS, namespace=self._namespace, fields=fields)
        async for change in changes:
            match change:
                case Put(manifest):
                    self._seen = manifest
                    self._news.set()
                case Synced():
                    self._told = True
                case Gone():
                    log.warning("the snapshot's pointer is gone, the last one stays in force")

    async def _work(self) -> None:
        failures = 0
        while True:
            await self._news.wait()
            self._news.clear()
            manifest = self._seen
            if manifest is None:
                continue
            try:
                await self._bring(manifest)
                self.problem, failures = "", 0
            except HeadgateError as error:
                failures += 1
                self.problem = str(error)
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 10))
                log.warning("snapshot not taken yet", error=str(error), after_s=pause)
                await self._newer_or(pause)
                continue
            if self._seen is manifest:
                self._seen = None

    async def _newer_or(self, seconds: float) -> None:
        """Wait for another pointer, or try the same one again after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            self._news.set()

    async def _bring(self, manifest: Mapping[str, Any]) -> None:
        pointer = decode_pointer(manifest.get("data", {}).get(POINTER_KEY, ""))
        if not self._snapshots.newer(pointer):
            running = self._snapshots.pointer
            if running is not None and pointer.version < running.version:
                log.warning(
                    "older snapshot refused", offered=pointer.version, running=running.version
                )
            return
        contents = await self._fetch(pointer)
        await self._snapshots.swap(pointer, contents)
        log.info(
            "snapshot in force",
            epoch=pointer.epoch,
            sequence=pointer.sequence,
            shards_changed=len(contents),
        )
        self._keeper.keep(pointer, contents)

    async def _fetch(self, pointer: Pointer) -> dict[Digest, bytes]:
        limit = asyncio.Semaphore(AT_FIRST if self._snapshots.pointer is None else AT_ONCE)

        async def one(digest: Digest) -> bytes:
            async with limit:
                name = f"{POINTER}-{digest}"
                found = await self._client.get(CONFIG_MAPS, self._namespace, name)
            content: bytes = found.get("data", {}).get(SHARD_KEY, "").encode()
            if digest_of(content) != digest:
                raise TerminalError(f"{name} does not hold what its name says")
            return content

        digests = self._snapshots.missing(pointer)
        contents = await asyncio.gather(*map(one, digests))
        return dict(zip(digests, contents, strict=True))


class PodFollower:
    """Keeps `pods` as the API server has them."""

    def __init__(self, client: Client, namespaces: tuple[str | None, ...], pods: Pods) -> None:
        self._client = client
        self._namespaces = namespaces
        self._pods = pods
        self._waiting = set(namespaces)

    @property
    def current(self) -> bool:
        """Whether every namespace has been listed once."""
        return not self._waiting

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                group.create_task(self._watch(namespace))

    async def _watch(self, namespace: str | None) -> None:
        selector = f"{PART}={MODEL_SERVER}"
        async for change in watch(self._client, PODS, namespace=namespace, selector=selector):
            match change:
                case Put(manifest):
                    self._pods.put(manifest)
                case Gone():
                    self._pods.gone(change.namespace, change.name)
                case Synced():
                    self._waiting.discard(namespace)
