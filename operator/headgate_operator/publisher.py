"""Writes the snapshot: shards first, the pointer last, so that a gateway sees all or nothing.

Only the leader publishes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, Protocol

import structlog

from headgate_api.errors import (
    Conflict,
    Forbidden,
    HeadgateError,
    TerminalError,
    Unavailable,
)
from headgate_api.snapshot import (
    BODIES,
    LABEL,
    POINTER,
    SHARD_KEY,
    Digest,
    Entry,
)
from headgate_controllers.contract import Key
from headgate_kube.client import Client, Object
from headgate_kube.resources import CONFIG_MAPS, Resource
from headgate_kube.watch import Gone, Put, watch
from headgate_operator import metrics
from headgate_operator.owner import Owners
from headgate_operator.pointer import PointerMap, Version, config_map
from headgate_policy.snapshot import Compiler, Shards, decode_shard

log = structlog.get_logger(__name__)

BATCH: Final = 0.05  # s; changes that come together make one snapshot
POINTERS_KEPT: Final = 4  # the newest and three older ones: a slow gateway still finds its shards
AT_ONCE: Final = 8  # shards read, written or deleted at the same time
PAUSES: Final = (0.2, 10.0)  # s; first and longest wait after a failure


class Api(Protocol):
    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object: ...
    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        selector: str = "",
        metadata_only: bool = False,
    ) -> tuple[list[Object], str]: ...
    async def create(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any]
    ) -> Object: ...
    async def replace(self, resource: Resource, body: Mapping[str, Any]) -> Object: ...
    async def delete(self, resource: Resource, namespace: str | None, name: str) -> bool: ...


@dataclass(slots=True)
class Publisher:
    """What is in force, and what will be with the next write."""

    api: Api
    namespace: str
    leads: Callable[[], bool]
    holds: Mapping[str, Callable[[Entry], Iterable[str]]] = field(default_factory=dict)
    published: Callable[[Iterable[Entry]], None] = lambda _: None  # told what a pointer has new
    owners: Owners = ()
    """Whom the ConfigMaps belong to."""
    _entries: dict[str, dict[Key, Entry]] = field(default_factory=lambda: {k: {} for k in BODIES})
    _holders: dict[tuple[str, str], dict[Key, Entry]] = field(default_factory=dict)
    _since: dict[Key, Version] = field(default_factory=dict)
    _pending: set[Key] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _compiler: Compiler = field(default_factory=Compiler)
    _pointer: PointerMap = field(init=False)
    _shards: set[Digest] = field(default_factory=set)  # ConfigMaps that exist
    _kept: deque[frozenset[Digest]] = field(default_factory=lambda: deque(maxlen=POINTERS_KEPT))

    def __post_init__(self) -> None:
        self._pointer = PointerMap(self.api, self.namespace, self.leads)

    @property
    def version(self) -> Version:
        """Of the pointer that we read or wrote last."""
        return self._pointer.version

    # What passes ask and say.

    def accepted(self, key: Key) -> Entry | None:
        return self._entries.get(key.kind, {}).get(key)

    def entries(self, kind: str) -> Iterable[Entry]:
        return self._entries[kind].values()

    def holders(self, kind: str, word: str) -> Iterable[Entry]:
        return self._holders.get((kind, word), {}).values()

    def keys(self) -> tuple[Key, ...]:
        return tuple(key for entries in self._entries.values() for key in entries)

    def since(self, key: Key) -> Version | None:
        """Version that first had the newest entry of `key`. None: it is not written yet."""
        return None if key in self._pending else self._since.get(key, (0, 0))

    def accept(self, key: Key, entry: Entry | None) -> None:
        """Have `entry` in the next snapshot; None takes the object out of it."""
        if self.accepted(key) == entry:
            return
        self._set(key, entry)
        self._pending.add(key)
        self._changed.set()

    def lost(self, name: str) -> None:
        """Write again what somebody deleted: a ConfigMap of the snapshot."""
        digest = name.removeprefix(f"{POINTER}-")
        if name == POINTER or digest in self._shards:
            self._shards.discard(digest)
            self._changed.set()

    async def edited(self, resource_version: str) -> None:
        """Write the pointer again where a watch has seen it with other contents than ours."""
        if await self._pointer.was_edited(resource_version):
            log.warning("somebody has edited the snapshot's pointer; it is written again")
            self._changed.set()

    # What the leader does.

    async def load(self) -> None:
        """Read the snapshot in force: it holds the last accepted version of every object.

        What cannot be decoded is left out and said; its object is looked at again anyhow.

        Raises:
            HeadgateError: what there is cannot be read now. It must not be written over.
        """
        found, _ = await self.api.list(
            CONFIG_MAPS, self.namespace, selector=f"{LABEL}=shard", metadata_only=True
        )
        self._shards = {item["metadata"]["name"].removeprefix(f"{POINTER}-") for item in found}
        self._kept.append(frozenset(self._shards))
        pointer = await self._pointer.read()
        for batch in _batches([*filter(None, pointer.shards)] if pointer else []):
            shards = await asyncio.gather(*map(self._read_shard, batch))
            for entry in chain.from_iterable(shards):
                key = Key(entry.kind, entry.namespace, entry.name)
                self._set(key, entry)
                self._since[key] = self.version

    async def next_epoch(self) -> int:
        """Tell the lowest epoch that is above the one in force."""
        await self._pointer.read()
        return self.version[0] + 1

    async def run(self, epoch: int) -> None:
        """Publish what is loaded at once, which fences off older leaders, then every change.

        Raises:
            StaleLeader: somebody leads who came after us.
        """
        pause = PAUSES[0]
        while True:
            started = asyncio.get_running_loop().time()
            self._changed.clear()
            try:
                await self._publish(epoch)
            except (Forbidden, Unavailable) as error:
                metrics.SNAPSHOT_FAILURES.inc()
                log.warning("snapshot will be written again", error=str(error), after_s=pause)
                await asyncio.sleep(pause)
                pause = min(PAUSES[1], 2 * pause)
                continue
            pause = PAUSES[0]
            metrics.SNAPSHOT_SECONDS.observe(asyncio.get_running_loop().time() - started + BATCH)
            await self._changed.wait()
            await asyncio.sleep(BATCH)

    def _set(self, key: Key, entry: Entry | None) -> None:
        entries, words = self._entries[key.kind], self.holds.get(key.kind, _nothing)
        if (before := entries.pop(key, None)) is not None:
            for word in words(before):
                self._holders[key.kind, word].pop(key, None)
                if not self._holders[key.kind, word]:
                    del self._holders[key.kind, word]
        if entry is not None:
            entries[key] = entry
            for word in words(entry):
                self._holders.setdefault((key.kind, word), {})[key] = entry

    async def guard(self, client: Client) -> None:
        """Notice, for ever, when somebody deletes or edits a part of the snapshot.

        A shard is immutable: it can only go.
        """
        async for change in watch(
            client, CONFIG_MAPS, namespace=self.namespace, selector=LABEL, metadata_only=True
        ):
            match change:
                case Gone(name=name):
                    self.lost(name)
                case Put(part) if part["metadata"]["name"] == POINTER:
                    await self.edited(part["metadata"]["resourceVersion"])
                case _:
                    pass

    async def _publish(self, epoch: int) -> None:
        written = {key: self.accepted(key) for key in self._pending}
        entries = (entry for kind in self._entries.values() for entry in kind.values())
        shards = self._compiler.compile(entries)
        await self._write_shards(shards)
        await self._pointer.write(epoch, shards.digests, self.owners)
        news = []
        for key, entry in written.items():
            if self.accepted(key) is not entry:
                continue  # changed while we wrote: the next snapshot has it
            self._pending.discard(key)
            if entry is None:
                self._since.pop(key, None)
            else:
                self._since[key] = self.version
                news.append(entry)
        self._kept.append(frozenset(shards.contents))
        self._say()
        self.published(news)
        await self._delete_old_shards()

    async def _write_shards(self, shards: Shards) -> None:
        missing = [digest for digest in shards.contents if digest not in self._shards]
        for batch in _batches(missing):
            await asyncio.gather(*(self._write_shard(d, shards.contents[d]) for d in batch))

    async def _write_shard(self, digest: Digest, content: bytes) -> None:
        name, data = f"{POINTER}-{digest}", {SHARD_KEY: content.decode()}
        body = config_map(self.namespace, name, "shard", data, self.owners)
        with suppress(Conflict):  # its name is its content: what is there is the same
            await self.api.create(CONFIG_MAPS, self.namespace, body | {"immutable": True})
        self._shards.add(digest)

    async def _delete_old_shards(self) -> None:
        old = sorted(self._shards.difference(*self._kept))
        for batch in _batches(old):
            self._shards.difference_update(batch)  # first: `lost` must not take it for a loss
            await asyncio.gather(*map(self._delete_shard, batch))

    async def _delete_shard(self, digest: Digest) -> None:
        try:
            await self.api.delete(CONFIG_MAPS, self.namespace, f"{POINTER}-{digest}")
        except HeadgateError:
            self._shards.add(digest)  # it is there for the next try
            raise

    async def _read_shard(self, digest: Digest) -> tuple[Entry, ...]:
        try:
            found = await self.api.get(CONFIG_MAPS, self.namespace, f"{POINTER}-{digest}")
            return decode_shard(found["data"][SHARD_KEY]).entries
        except Forbidden:
            raise
        except (TerminalError, KeyError) as error:
            log.warning("a shard cannot be read", shard=digest, error=str(error))
            return ()

    def _say(self) -> None:
        metrics.SNAPSHOT_EPOCH.set(self.version[0])
        metrics.SNAPSHOT_SEQUENCE.set(self.version[1])
        metrics.SNAPSHOT_SHARDS.set(len(self._kept[-1]))
        for kind, entries in self._entries.items():
            metrics.SNAPSHOT_ENTRIES.labels(kind).set(len(entries))


def _batches(digests: Sequence[Digest]) -> Iterable[Sequence[Digest]]:
    return (digests[start : start + AT_ONCE] for start in range(0, len(digests), AT_ONCE))


def _nothing(_: Entry) -> Iterable[str]:
    return ()
