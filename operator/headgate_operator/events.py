"""Tells people what happened, as Kubernetes events on their objects. Only news, and not too much.

The name of an event is made from what it says, so that saying it again counts up instead of
filling the API server.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Protocol

import structlog

from headgate_api.errors import Conflict, HeadgateError
from headgate_controllers.contract import Key, Manifest, Note, key_of
from headgate_kube.client import Object
from headgate_kube.resources import EVENTS as RESOURCE, Resource
from headgate_operator.metrics import EVENTS

log = structlog.get_logger(__name__)

RATE: Final = 10.0  # events per second, in the long run
BURST: Final = 100.0  # events at once
COMPONENT: Final = "headgate-operator"


class Api(Protocol):
    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object: ...
    async def create(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any]
    ) -> Object: ...
    async def merge(
        self, resource: Resource, namespace: str | None, name: str, patch: Mapping[str, Any]
    ) -> Object: ...


@dataclass(slots=True)
class Recorder:
    """Remembers what was said about each object and says the rest."""

    api: Api
    identity: str
    now: Callable[[], datetime]
    _said: dict[Key, frozenset[Note]] = field(default_factory=dict)
    _left: float = BURST
    _filled: datetime | None = None

    async def tell(self, about: Manifest, notes: Iterable[Note], *, flipped: bool) -> None:
        """Say the notes that the pass before did not have.

        Args:
            about: the object.
            notes: all that this pass found.
            flipped: this pass changed the status. What a new leader finds as the status has it
                already is no news.
        """
        key, found = key_of(about), frozenset(notes)
        before = self._said.get(key)
        self._said[key] = found
        if before is None and not flipped:
            return
        for note in sorted(found - (before or frozenset()), key=lambda note: note.sentence):
            await self.say(about, note)

    def forget(self, key: Key) -> None:
        self._said.pop(key, None)

    async def say(self, about: Manifest, note: Note) -> None:
        """Record one event. It is only news: a failure is counted and never raised."""
        if not self._may_speak():
            EVENTS.labels("dropped").inc()
            return
        try:
            EVENTS.labels(await self._record(about, note)).inc()
        except HeadgateError as error:
            EVENTS.labels("failed").inc()
            log.warning("event was lost", reason=str(note.reason), error=str(error))

    async def _record(self, about: Manifest, note: Note) -> str:
        meta = about["metadata"]
        said = f"{meta['uid']}/{note.reason}/{note.sentence}"
        name = f"{meta['name'][:200]}.{blake2b(said.encode(), digest_size=8).hexdigest()}"
        namespace = meta.get("namespace") or "default"
        stamp = self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": meta["name"],
                "namespace": meta.get("namespace", ""),
                "uid": meta["uid"],
            },
            "type": "Warning" if note.warning else "Normal",
            "reason": str(note.reason),
            "message": note.sentence[:1024],
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self.identity,
        }
        try:
            await self.api.create(RESOURCE, namespace, event)
        except Conflict:
            there = await self.api.get(RESOURCE, namespace, name)
            again = {"count": there.get("count", 1) + 1, "lastTimestamp": stamp}
            await self.api.merge(RESOURCE, namespace, name, again)
            return "counted"
        return "created"

    def _may_speak(self) -> bool:
        now = self.now()
        if self._filled is not None:
            gained = (now - self._filled).total_seconds() * RATE
            self._left = min(BURST, self._left + max(0.0, gained))
        self._filled = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
