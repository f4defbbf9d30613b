"""Leader election by a Lease, fenced by monotonic time.

A leader stops by its own clock before the others may start by theirs, even when the API server
hangs. Clocks of two machines are never compared: a lease runs from when *we* first saw its record.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from headgate_api.errors import HeadgateError, NotFound
from headgate_kube.client import Object
from headgate_kube.resources import LEASES
from headgate_operator.api import Api
from headgate_operator.metrics import LEADER
from headgate_operator.owner import Owners

log = structlog.get_logger(__name__)


class LeaseLost(HeadgateError):
    """We could not renew in time. Another process may lead now, so this one must end."""


@dataclass(slots=True)
class Elector:
    """One candidate."""

    api: Api
    namespace: str
    name: str
    identity: str
    duration: float = 15.0  # s; others wait so long after they last saw us renew
    deadline: float = 10.0  # s; we stop so long after we last did
    period: float = 2.0  # s between two tries
    owners: Owners = ()
    """Whom the Lease belongs to. Written by each new leader: one from a backup has another uid."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    epoch: int = -1
    """Transitions of the Lease when we got it: of two leaders, the later has the higher."""
    _held: Object | None = None  # the Lease as our last write left it: renewed without a read
    _renewed: float = float("-inf")
    _failed: str = ""  # why the last try did: it is told once
    _seen: tuple[object, float] = field(default=(None, 0.0))

    @property
    def leads(self) -> bool:
        """Whether nobody else can lead at this moment."""
        return self.clock() < self._renewed + self.deadline

    async def acquire(self, lowest_epoch: Callable[[], Awaitable[int]]) -> None:
        """Wait until we lead.

        Args:
            lowest_epoch: the Lease may have been deleted, or restored from a backup, and epochs
                must not start again below those that gateways have seen.
        """
        while not await self._try(self.deadline, lowest_epoch):
            await self.sleep(self.period * random.uniform(1.0, 1.2))  # noqa: S311 - spreads load
        log.info("leading", epoch=self.epoch, identity=self.identity)
        LEADER.set(1)

    async def hold(self) -> None:
        """Renew for ever.

        Raises:
            LeaseLost: we could not.
        """
        while self.leads:
            await self.sleep(self.period)
            await self._try(self._renewed + self.deadline - self.clock(), _never)
        LEADER.set(0)
        raise LeaseLost("the lease could not be renewed in time")

    async def release(self) -> None:
        """Let the next one lead at once, where we still do."""
        if not self.leads:
            return
        LEADER.set(0)
        with suppress(HeadgateError, TimeoutError):
            async with asyncio.timeout(2.0):
                lease = await self.api.get(LEASES, self.namespace, self.name)
                if lease["spec"].get("holderIdentity") == self.identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self.api.replace(LEASES, lease)
        self._renewed = float("-inf")

    async def _try(self, seconds: float, lowest_epoch: Callable[[], Awaitable[int]]) -> bool:
        """Try once to get or renew the Lease, in no more than `seconds`."""
        started = self.clock()
        try:
            async with asyncio.timeout(seconds):
                taken = await self._take(lowest_epoch)
        except (HeadgateError, TimeoutError) as error:
            # A conflict, too: somebody else was faster, or an administrator edited the Lease.
            if self._failed != (why := str(error) or type(error).__name__):
                log.warning("lease could not be taken", error=why)
            self._failed = why
            return False
        self._failed = ""
        if taken:
            self._renewed = started  # the server's clock may have run since then
        return taken

    async def _take(self, lowest_epoch: Callable[[], Awaitable[int]]) -> bool:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease, self._held = self._held, None  # where somebody has edited it: read by the next try
        try:
            lease = lease or await self.api.get(LEASES, self.namespace, self.name)
        except NotFound:
            await self._create(stamp, await lowest_epoch())
            return True
        spec = lease["spec"]
        record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if self._seen[0] != record:
            self._seen = (record, self.clock())
        if spec.get("holderIdentity") == self.identity and self.epoch >= 0:
            spec["renewTime"] = stamp
        elif self._taken_by_another(spec):
            return False
        else:
            epoch = max(spec.get("leaseTransitions", 0) + 1, await lowest_epoch())
            spec |= self._ours(stamp, epoch)
            lease["metadata"] |= {"ownerReferences": list(self.owners)}
        self._held = await self.api.replace(LEASES, lease)
        self.epoch = spec["leaseTransitions"]
        return True

    def _taken_by_another(self, spec: Mapping[str, Any]) -> bool:
        if spec.get("holderIdentity") in (None, "", self.identity):
            return False  # free, or held by what ran in this pod before a restart
        seconds: float = spec.get("leaseDurationSeconds", self.duration)
        return self.clock() < self._seen[1] + seconds

    async def _create(self, stamp: str, epoch: int) -> None:
        meta = {"name": self.name, "namespace": self.namespace}
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": meta | {"ownerReferences": list(self.owners)},
            "spec": self._ours(stamp, epoch),
        }
        self._held = await self.api.create(LEASES, self.namespace, body)
        self.epoch = epoch

    def _ours(self, stamp: str, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self.duration)),
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaseTransitions": transitions,
        }


async def _never() -> int:
    raise LeaseLost("the Lease was deleted while we held it")
