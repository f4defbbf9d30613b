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
from headgate_operator.publisher import Version
from headgate_operator.store import Store

log = structlog.get_logger(__name__)

SOON: Final = 0.2  # s; what a gateway needs to load a new snapshot
OFTEN: Final = 1.0  # s between rounds while an object waits for gateways
SELDOM: Final = 15.0  # s between rounds else
LATE: Final = 10.0  # s after which a gateway without the newest snapshot is worth an event
TIMEOUT: Final = aiohttp.ClientTimeout(total=2.0)


class Snapshot(Protocol):
    version: Version

    def accepted(self, key: Key) -> Entry | None: ...
    def since(self, key: Key) -> Version | None: ...


class Ask(Protocol):
    async def __call__(self, pod: Manifest) -> GatewayReport:
        """Fetch a gateway's report. `Unavailable`: it did not give one."""
        ...


@dataclass(slots=True)
class Gateways:
    """The Ready gateways, what each one said last, and who waits for them."""

    snapshot: Snapshot
    store: Store
    ask: Ask
    wake: Callable[[Key], None]
    tell: Callable[[Manifest, Note], Awaitable[None]]
    clock: Callable[[], float]
    _pods: dict[str, Manifest] = field(default_factory=dict)  # Ready ones by name
    _reports: dict[str, GatewayReport] = field(default_factory=dict)  # by uid
    _waiting: dict[Key, str] = field(default_factory=dict)  # state that its status may tell
    _behind_since: dict[str, float] = field(default_factory=dict)  # by uid
    _told_late: set[str] = field(default_factory=set)  # uids
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
        told = "GatewaysBehind" if self._pods else "NoGateways"  # by the pass that made the entry
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
        if name not in self._pods:
            self._hurry.set()
        self._pods[name] = pod

    def gone(self, name: str) -> None:
        if (pod := self._pods.pop(name, None)) is None:
            return
        uid = pod["metadata"]["uid"]
        self._reports.pop(uid, None)
        self._behind_since.pop(uid, None)
        self._told_late.discard(uid)
        self._hurry.set()

    async def round(self) -> None:
        """Ask every Ready gateway once, then wake those whose answer changed."""
        await asyncio.gather(*(self._ask(pod) for pod in list(self._pods.values())))
        await self._look_for_late_ones()
        for key, told in list(self._waiting.items()):
            entry = self.snapshot.accepted(key)
            state = self._look(key, entry.generation).state if entry else "AllGateways"
            if state == "AllGateways":
                del self._waiting[key]
            if state != told:
                self.wake(key)

    async def _ask(self, pod: Manifest) -> None:
        meta = pod["metadata"]
        try:
            report = await self.ask(pod)
        except Unavailable as error:
            log.warning("gateway did not report", pod=meta["name"], error=str(error))
            return
        if meta["name"] in self._pods:
            self._reports[meta["uid"]] = report

    async def _look_for_late_ones(self) -> None:
        now, late = self.clock(), 0
        for pod in list(self._pods.values()):
            uid = pod["metadata"]["uid"]
            if self._has(pod, self.snapshot.version):
                self._behind_since.pop(uid, None)
                self._told_late.discard(uid)
                continue
            if now - self._behind_since.setdefault(uid, now) < LATE:
                continue
            late += 1
            if uid not in self._told_late:
                self._told_late.add(uid)
                sentence = f"This gateway has not taken the newest snapshot for over {LATE:.0f} s"
                await self.tell(pod, Note(Reason.GATEWAYS_BEHIND, sentence, warning=True))
        GATEWAYS_READY.set(len(self._pods))
        GATEWAYS_BEHIND.set(late)

    def _look(self, key: Key, generation: int) -> Programmed:
        if not self._pods:
            return Programmed("NoGateways")
        entry, since = self.snapshot.accepted(key), self.snapshot.since(key)
        if entry is None or entry.generation < generation:
            since = None  # the pass that asks may be about to accept it
        identity = Identity(kind=key.kind, namespace=key.namespace, name=key.name)  # type: ignore[arg-type]
        behind = tuple(
            name
            for name, pod in sorted(self._pods.items())
            if since is None or not self._has(pod, since) or self._refused(pod, identity)
        )
        return Programmed("GatewaysBehind", behind) if behind else Programmed("AllGateways")

    def _has(self, pod: Manifest, version: Version) -> bool:
        report = self._reports.get(pod["metadata"]["uid"])
        return report is not None and report.version >= version

    def _refused(self, pod: Manifest, identity: Identity) -> bool:
        report = self._reports.get(pod["metadata"]["uid"])
        return report is not None and identity in report.kept

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
