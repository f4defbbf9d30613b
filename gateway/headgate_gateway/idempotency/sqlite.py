"""The embedded store: one gateway, one file, and a thread that alone writes to it.

All claims that wait while the disk syncs share the next sync. What nobody waits for, outcomes above
all, leaves with them, or 100 ms later at the latest.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from headgate_api.errors import HeadgateError, Unavailable
from headgate_gateway.idempotency.store import (
    CLAIMED,
    NOT_KEPT,
    Claim,
    Found,
    Outcome,
)
from headgate_gateway.idempotency.table import Batch, Table

log = structlog.get_logger(__name__)

GROUP: Final = 0.1  # s that an outcome waits for company
MOST: Final = 500  # asked at once
IDLE: Final = 60.0  # s after which old keys are looked for although nobody asks
AGAIN: Final = 1.0  # s until what failed is tried once more
FAULTS: Final = (sqlite3.Error, OSError, HeadgateError)


@dataclass(frozen=True, slots=True)
class Ask:
    """A claim, and who waits for the answer."""

    claim: Claim
    found: asyncio.Future[Found]


@dataclass(frozen=True, slots=True)
class Finish:
    claim: Claim
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Release:
    claim: Claim


@dataclass(frozen=True, slots=True)
class Renew:
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    pass


Job = Ask | Finish | Release | Renew | Stop


@dataclass(slots=True)
class Work:
    """What the thread took from the queue to do at once."""

    batch: Batch = field(default_factory=Batch)
    waiting: list[asyncio.Future[Found]] = field(default_factory=list)
    size: int = 0
    stop: bool = False

    def add(self, job: Job) -> None:
        self.size += 1
        match job:
            case Ask(claim, found):
                self.batch.claims.append(claim)
                self.waiting.append(found)
            case Finish(claim, outcome):
                self.batch.finished.append((claim, outcome))
            case Release(claim):
                self.batch.released.append(claim)
            case Renew(claims):
                self.batch.renewed.extend(claims)
            case Stop():
                self.stop = True

    @property
    def urgent(self) -> bool:
        return bool(self.waiting) or self.stop


class SqliteStore:
    """See `Store`.

    Args:
        path: the file. Nobody else may have it open.
        most_bytes: its size.
        clock: s since 1970.
    """

    def __init__(
        self, path: Path, *, most_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._clock = clock
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._jobs.put(Renew(()))  # opens the file: a fault is told at the start
        self._closed = False
        self._table: Table | None = None
        self._undone: list[Job] = []
        self._told = ""  # the fault that was logged last
        self.file_bytes = 0
        self._thread = threading.Thread(target=self._work, name="idempotency", daemon=True)
        self._thread.start()

    async def claim(self, claim: Claim) -> Found:
        if self._closed:
            raise Unavailable("the store of Idempotency-Keys is closed")
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._jobs.put(Ask(claim, found))
        return await found

    def renew(self, claims: Collection[Claim]) -> None:
        self._jobs.put(Renew(tuple(claims)))

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        self._jobs.put(Finish(claim, outcome))

    def release(self, claim: Claim) -> None:
        self._jobs.put(Release(claim))

    async def close(self) -> None:
        self._closed = True
        self._jobs.put(Stop())
        await asyncio.to_thread(self._thread.join)

    # In the thread

    def _work(self) -> None:
        stop = False
        while not stop:
            work = self._gather()
            stop = work.stop
            try:
                found: list[Found] | None = self._run(work.batch)
                self._told = ""
            except FAULTS as error:
                self._tell(error)
                found = None
                if work.batch.finished or work.batch.released:
                    self._salvage(work.batch)
            if work.waiting:
                loop = work.waiting[0].get_loop()
                loop.call_soon_threadsafe(self._answer, work, found)
        if self._table is not None:
            self._table.close()

    def _gather(self) -> Work:
        """Wait for work, then take all that is there; where nobody waits, a little longer."""
        work = Work()
        for job in self._undone[:MOST]:
            work.add(job)
        del self._undone[:MOST]
        behind = self._table is not None and self._table.behind
        wait = AGAIN if work.size or behind else IDLE
        until = 0.0
        while True:
            try:
                work.add(self._jobs.get(timeout=wait))
            except queue.Empty:
                return work
            if work.size >= MOST:
                return work
            until = until or time.monotonic() + GROUP
            wait = 0.0 if work.urgent else max(0.0, until - time.monotonic())

    def _run(self, batch: Batch) -> list[Found]:
        if self._table is None:
            self._table = Table(self._path, self._most_bytes, self._clock)
        found = self._table.run(batch)
        self.file_bytes = self._table.used
        return found

    def _salvage(self, batch: Batch) -> None:
        """Without the claims it may work. If not, at least what is over must not run again."""
        rest = Batch(finished=batch.finished, released=batch.released)
        try:
            self._run(rest)
        except FAULTS as error:
            self._tell(error)
            self._undone += (Finish(claim, NOT_KEPT) for claim, _ in rest.finished)
            self._undone += map(Release, rest.released)

    def _tell(self, error: Exception) -> None:
        if str(error) != self._told:
            self._told = str(error)
            log.error("idempotency store failed", path=str(self._path), error=self._told)

    # In the loop

    def _answer(self, work: Work, found: list[Found] | None) -> None:
        for index, future in enumerate(work.waiting):
            if future.done():  # its task was cancelled: nobody would let go of the key
                if found is None or found[index] is CLAIMED:
                    self.release(work.batch.claims[index])
            elif found is None:
                future.set_exception(Unavailable("the store of Idempotency-Keys failed"))
            else:
                future.set_result(found[index])
