"""Asks the gateways which snapshot they run, so that `Programmed` is a fact and not a hope.

A gateway becomes Ready only once it runs the newest snapshot, and `Programmed` is told once per
generation: what was True stays True, whatever comes and goes later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import aiohttp
import msgspec
import structlog

from headgate_api.conditions import Reason
from headgate_api.errors import Unavailable
from headgate_api.labels import GATEWAY, PART
from headgate_api.snapshot import Entry, GatewayReport, Identity
from headgate_controllers.contract import Key, Manifest, Note, Programmed
from headgate_kube.client import Client
from headgate_kube.resources import PODS
from headgate_kube.watch import Gone, Put, watch
from headgate_operator.metrics import GATEWAYS_BEHIND, GATEWAYS_READY
from headgate_operator.pods import is_ready
from headgate_operator.pointer import Version
from headgate_operator.store import Store

log = structlog.get_logger(__name__)

SOON: Final = 0.2  # s; what a gateway needs to load a new snapshot
OFTEN: Final = 1.0  # s between rounds while an object waits for gateways
SELDOM: Final = 15.0  # s between rounds else
LATE: Final = 10.0  # s after which a gateway without the newest snapshot is worth an event
TIMEOUT: Final = aiohttp.ClientTimeout(total=2.0)


class Snapshot(Protocol):
    @property
    def version(self) -> Version: ...
    def accepted(self, key: Key) -> Entry | None: ...
    def since(self, key: Key) -> Version | None: ...


class Ask(Protocol):
    async def __call__(self, pod: Manifest) -> GatewayReport:
        """Fetch a gateway's report. `Unavailable`: it did not give one."""
        ...


@dataclass(slots=True)
class Gateway:
    """A Ready gateway, and what it said last."""

    pod: Manifest
    report: GatewayReport | None = None
    silent: bool = False  # it gave no report when it was asked last
    behind_since: float | None = None  # without the newest snapshot; None: it has it
    told_late: bool = False

    def has(self, version: Version) -> bool:
        return self.report is not None and self.report.version >= version

    def refused(self, identity: Identity) -> bool:
        """Whether it could not read the object's newest version and keeps the one before."""
        return self.report is not None and identity in self.report.kept


@dataclass(slots=True)
class Gateways:
    """The Ready gateways, and who waits for them."""

    snapshot: Snapshot
    store: Store
    ask: Ask
    wake: Callable[[Key], None]
    tell: Callable[[Manifest, Note], Awaitable[None]]
    clock: Callable[[], float]
    _ready: dict[str, Gateway] = field(default_factory=dict)  # by name
    _waiting: dict[Key, str] = field(default_factory=dict)  # state that its status may tell
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def programmed(self, key: Key, generation: int) -> Programmed:
        """Tell how far gateways are with this generation of an object."""
        if self._was_programmed(key, generation):
            self._waiting.pop(key, None)
            return Programmed("AllGateways")
        found = self._look(key, generation)
        if key in self._waiting:
            self._waiting[key] = found.state
        return found

    def published(self, news: Iterable[Entry]) -> None:
        """Ask soon, and wake those whose newest entry every gateway has then."""
        told = "GatewaysBehind" if self._ready else "NoGateways"  # by the pass that made the entry
        for entry in news:
            key = Key(entry.kind, entry.namespace, entry.name)
            if not self._was_programmed(key, entry.generation):
                self._waiting[key] = told
        self._hurry.set()

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.round()
            try:
                async with asyncio.timeout(OFTEN if self._waiting else SELDOM):
                    await self._hurry.wait()
            except TimeoutError:
                continue
            self._hurry.clear()
            await asyncio.sleep(SOON)

    async def follow(self, client: Client, namespace: str) -> None:
        """Keep the list of Ready gateways, for ever."""
        async for change in watch(client, PODS, namespace=namespace, selector=f"{PART}={GATEWAY}"):
            match change:
                case Put(pod):
                    self.put(pod)
                case Gone(_, name, _):
                    self.gone(name)
                case _:
                    pass

    def put(self, pod: Manifest) -> None:
        name = pod["metadata"]["name"]
        if not is_ready(pod):
            self.gone(name)
            return
        known = self._ready.get(name)
        if known is not None and known.pod["metadata"]["uid"] == pod["metadata"]["uid"]:
            known.pod = pod
            return
        self._ready[name] = Gateway(pod)
        self._hurry.set()

    def gone(self, name: str) -> None:
        if self._ready.pop(name, None) is not None:
            self._hurry.set()

    async def round(self) -> None:
        """Ask every Ready gateway once, then wake those whose answer changed."""
        await asyncio.gather(*map(self._ask, self._ready.values()))
        await self._look_for_late_ones()
        for key, told in list(self._waiting.items()):
            entry = self.snapshot.accepted(key)
            state = self._look(key, entry.generation).state if entry else "AllGateways"
            if state == "AllGateways":
                del self._waiting[key]
            if state != told:
                self.wake(key)

    async def _ask(self, gateway: Gateway) -> None:
        try:
            gateway.report = await self.ask(gateway.pod)
        except Unavailable as error:
            if not gateway.silent:
                name = gateway.pod["metadata"]["name"]
                log.warning("gateway does not report", pod=name, error=str(error))
            gateway.silent = True
        else:
            gateway.silent = False

    async def _look_for_late_ones(self) -> None:
        now, late = self.clock(), 0
        for gateway in list(self._ready.values()):
            if gateway.has(self.snapshot.version):
                gateway.behind_since, gateway.told_late = None, False
                continue
            if gateway.behind_since is None:
                gateway.behind_since = now
            if now - gateway.behind_since < LATE:
                continue
            late += 1
            if not gateway.told_late:
                gateway.told_late = True
                sentence = f"This gateway has not taken the newest snapshot for over {LATE:.0f} s"
                await self.tell(gateway.pod, Note(Reason.GATEWAYS_BEHIND, sentence, warning=True))
        GATEWAYS_READY.set(len(self._ready))
        GATEWAYS_BEHIND.set(late)

    def _look(self, key: Key, generation: int) -> Programmed:
        if not self._ready:
            return Programmed("NoGateways")
        entry, since = self.snapshot.accepted(key), self.snapshot.since(key)
        if entry is None or entry.generation < generation:
            since = None  # the pass that asks may be about to accept it
        identity = Identity(kind=key.kind, namespace=key.namespace, name=key.name)  # type: ignore[arg-type]
        behind = tuple(
            name
            for name, gateway in sorted(self._ready.items())
            if since is None or not gateway.has(since) or gateway.refused(identity)
        )
        return Programmed("GatewaysBehind", behind) if behind else Programmed("AllGateways")

    def _was_programmed(self, key: Key, generation: int) -> bool:
        manifest = self.store.get(key)
        conditions = manifest.get("status", {}).get("conditions", ()) if manifest else ()
        return any(
            condition["type"] == "Programmed"
            and condition["reason"] == Reason.ALL_GATEWAYS
            and condition.get("observedGeneration") == generation
            for condition in conditions
        )


@dataclass(frozen=True, slots=True)
class AskByHttp:
    """Asks a gateway's admin port, with a token that only gateways take."""

    http: aiohttp.ClientSession
    port: int
    token: Path

    async def __call__(self, pod: Manifest) -> GatewayReport:
        url = f"http://{pod['status']['podIP']}:{self.port}/snapshot"
        try:
            headers = {"Authorization": f"Bearer {self.token.read_text().strip()}"}
            async with self.http.get(url, headers=headers, timeout=TIMEOUT) as answer:
                if answer.status != 200:
                    raise Unavailable(f"{url} answered {answer.status}")
                return msgspec.json.decode(await answer.read(), type=GatewayReport)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
            raise Unavailable(f"{url}: {str(error) or type(error).__name__}") from error
