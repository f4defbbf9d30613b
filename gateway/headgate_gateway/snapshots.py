"""The snapshot in force: how the next one takes its place while requests are served.

Only shards that changed are decoded. The work is done in steps between which the event loop runs,
and the garbage collector stays away: a full collection over all tenants would hold up every stream.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from headgate_api.errors import TerminalError
from headgate_api.snapshot import (
    FEATURES,
    SCHEMA,
    Digest,
    Entry,
    GatewayReport,
    Identity,
    Pointer,
)
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.request import Request
from headgate_gateway.routing.tables import Tables, TablesDraft
from headgate_gateway.telemetry.trace_context import Trace
from headgate_gateway.timeline import Timeline
from headgate_policy.snapshot import decode_shard

log = structlog.get_logger(__name__)

STEP: Final = 0.0002  # s of work before requests get their turn


class Snapshots:
    """What the gateway runs. `tables` is replaced as a whole."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        # Its own CPU time: what other programs took in between is not the swap's doing.
        self._clock = clock
        self._shards: dict[Digest, tuple[Identity, ...]] = {}
        self._kept: frozenset[Identity] = frozenset()
        self._provisional = False  # what runs is the last one of an earlier process
        self.tables = Tables()
        self.pointer: Pointer | None = None
        self.longest_step = 0.0
        """s; the most work that a swap ever did without letting requests have their turn."""

    @property
    def report(self) -> GatewayReport:
        pointer = self.pointer
        return GatewayReport(
            schema=SCHEMA,
            epoch=pointer.epoch if pointer is not None else -1,
            sequence=pointer.sequence if pointer is not None else -1,
            features=tuple(sorted(FEATURES)),
            kept=tuple(sorted(self._kept)),
        )

    @property
    def confirmed(self) -> bool:
        """Whether the API server has told this process of what runs.

        Until then no request is served by it: keys may have been revoked while we were away.
        """
        return self.pointer is not None and not self._provisional

    def request(self, exchange: Exchange, trace: Trace, now: float, clock: float) -> Request:
        """Begin a request under the policy that is in force now.

        Args:
            exchange: what the client sent.
            trace: its place in its trace.
            now: s since 1970.
            clock: s on the event loop's clock.
        """
        return Request(
            id=exchange.id,
            head=exchange.head,
            body=exchange.body,
            tables=self.tables,
            loaded=self.confirmed,
            now=now,
            trace=trace,
            timeline=Timeline(clock),
        )

    def newer(self, pointer: Pointer) -> bool:
        """Whether `pointer` may follow what runs now: the version only ever rises.

        What came from the volume gives way to whatever the API server has: after a new
        installation versions begin anew, and the volume may be from the old one.
        """
        if self.pointer is None or self._provisional:
            return True
        return pointer.version > self.pointer.version

    def missing(self, pointer: Pointer) -> list[Digest]:
        """List the shards of `pointer` that are not in force yet."""
        listed = dict.fromkeys(filter(None, pointer.shards))
        return [digest for digest in listed if digest not in self._shards]

    async def swap(
        self, pointer: Pointer, contents: Mapping[Digest, bytes], *, provisional: bool = False
    ) -> None:
        """Bring `pointer` into force.

        Args:
            pointer: one for which `newer` is true.
            contents: the shards that `missing` lists.
            provisional: it is the last one of an earlier process; nobody is served by it yet.

        Raises:
            TerminalError: a shard cannot be read; what runs goes on.
        """
        breath = _Breath(self._clock)
        draft = self.tables.edit()
        shards: dict[Digest, tuple[Identity, ...]] = {}
        present: set[Identity] = set()
        kept: set[Identity] = set()
        gc.disable()
        try:
            for digest in dict.fromkeys(filter(None, pointer.shards)):
                if digest in self._shards:
                    shards[digest] = self._shards[digest]
                    continue
                await breath.take(force=True)
                entries = decode_shard(contents[digest]).entries
                for entry in entries:
                    await breath.take()
                    for _ in draft.compiling(entry):
                        await breath.take()
                    if not _put(draft, entry):
                        kept.add(entry.identity)
                shards[digest] = tuple(entry.identity for entry in entries)
                present.update(shards[digest])
            for digest, identities in self._shards.items():
                if digest in shards:
                    continue
                for identity in identities:
                    await breath.take()
                    if identity not in present:
                        draft.drop(identity)
            kept |= self._still_kept(shards, present)
            await breath.take()
            tables = draft.done()
            rest: list[object] = [*self.tables.without(tables), *draft.replaced]
            rest += (old for digest, old in self._shards.items() if digest not in shards)
            draft.replaced.clear()
            self.tables, self.pointer = tables, pointer
            self._shards, self._kept = shards, frozenset(kept)
            self._provisional = provisional
            gc.freeze()
            while rest:  # what the old tables alone held: freeing it costs as much as making it
                rest.pop()
                await breath.take()
        finally:
            gc.enable()
            self.longest_step = max(self.longest_step, breath.end())

    def _still_kept(
        self, shards: Mapping[Digest, tuple[Identity, ...]], present: set[Identity]
    ) -> set[Identity]:
        """Objects kept before whose shard is still the same."""
        waiting = self._kept - present
        if not waiting:
            return set()
        return {i for identities in shards.values() for i in identities if i in waiting}


def _put(draft: TablesDraft, entry: Entry) -> bool:
    """Bring one entry into force. False: it means more than we know, so the old one stays."""
    if unknown := set(entry.requires) - FEATURES:
        _said(entry).warning("object kept, its newer version needs more", requires=sorted(unknown))
        return False
    try:
        draft.put(entry)
    except TerminalError as error:
        _said(entry).error("object kept, its newer version cannot be read", error=str(error))
        return False
    return True


def _said(entry: Entry) -> structlog.stdlib.BoundLogger:
    """Only for an entry in trouble: a bound logger costs more than to find an entry unchanged."""
    bound: structlog.stdlib.BoundLogger = log.bind(
        kind=entry.kind, object=f"{entry.namespace}/{entry.name}"
    )
    return bound


class _Breath:
    """Lets the event loop run when a step of work has become too long."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._longest = 0.0

    async def take(self, *, force: bool = False) -> None:
        if force or self._clock() - self._since >= STEP:
            self.end()
            await asyncio.sleep(0)
            self._since = self._clock()

    def end(self) -> float:
        self._longest = max(self._longest, self._clock() - self._since)
        return self._longest
