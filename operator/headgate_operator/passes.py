"""One pass: fetch, look, plan, write, and say when to come back."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from time import perf_counter
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from headgate_api.conditions import Reason
from headgate_api.errors import Forbidden, HeadgateError, NotFound, TerminalError, Unavailable
from headgate_api.snapshot import Entry
from headgate_controllers.contract import (
    Controller,
    Document,
    Environment,
    Found,
    Key,
    Manifest,
    Missing,
    Note,
    Plan,
    Unreadable,
)
from headgate_kube.client import Object
from headgate_kube.resources import BY_KIND, Resource
from headgate_operator.cache import View
from headgate_operator.metrics import ENDS, PASS_SECONDS, PASSES

log = structlog.get_logger(__name__)
Seen = TypeVar("Seen")

FORBIDDEN_PAUSE: Final = 30.0  # s; a role may be granted later


class Queue(Protocol):
    async def get(self) -> Key: ...
    def done(self, key: Key) -> None: ...
    def retry(self, key: Key, *, not_before: float | None = None) -> None: ...
    def forget(self, key: Key) -> None: ...
    def add_after(self, key: Key, seconds: float) -> None: ...


class Api(Protocol):
    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object: ...


class Writer(Protocol):
    async def write(self, owner: Manifest, plan: Plan) -> bool: ...
    def forget(self, owner: Key) -> None: ...


class Snapshot(Protocol):
    def accept(self, key: Key, entry: Entry | None) -> None: ...


class Recorder(Protocol):
    async def tell(self, about: Manifest, notes: tuple[Note, ...], *, flipped: bool) -> None: ...
    async def say(self, about: Manifest, note: Note) -> None: ...
    def forget(self, key: Key) -> None: ...


@dataclass(slots=True)
class Passes(Generic[Seen]):
    """Passes of one controller."""

    controller: Controller[Seen]
    environment: Environment
    api: Api
    view: Callable[[Mapping[Key, Found]], View]
    writer: Writer
    snapshot: Snapshot
    recorder: Recorder
    queue: Queue
    now: Callable[[], datetime]
    ids: Callable[[], int] = count(1).__next__  # an id must not cost a system call
    _refused: dict[Key, str] = field(default_factory=dict)  # what was said of the last refusal

    def __post_init__(self) -> None:
        for end in ENDS:  # every series exists from 0, so that rate() sees the first failure
            PASSES.labels(self.controller.kind, end)

    async def run(self, key: Key) -> None:
        """Run one pass, whatever becomes of it."""
        said = log.bind(kind=key.kind, object=f"{key.namespace}/{key.name}", id=self.ids())
        started = perf_counter()
        try:
            end = await self._look_plan_write(key)
        except TerminalError as error:
            if isinstance(error, Forbidden):
                self.queue.retry(key, not_before=FORBIDDEN_PAUSE)
            else:
                self.queue.forget(key)
            if self._refused.get(key) != str(error):
                self._refused[key] = str(error)
                said.error("pass was refused", error=str(error))
                await self._say_refused(key, error)
            end = "terminal"
        except Unavailable as error:
            said.warning("pass will be retried", error=str(error), after_s=error.after)
            self.queue.retry(key, not_before=error.after)
            end = "unavailable"
        except Exception:  # noqa: BLE001 - a bug on one object must not stop the others
            said.exception("pass broke")
            self.queue.retry(key)
            end = "bug"
        PASSES.labels(key.kind, end).inc()
        PASS_SECONDS.labels(key.kind).observe(perf_counter() - started)

    async def _look_plan_write(self, key: Key) -> str:
        manifest = self.view({}).get(key)
        seen, documents = (None, {}) if manifest is None else await self._look(key, manifest)
        if seen is None or manifest is None:
            self.snapshot.accept(key, None)
            self.writer.forget(key)
            self.recorder.forget(key)
            self.queue.forget(key)
            self._refused.pop(key, None)
            return "success"
        plan = self.controller.plan(seen, self.now())
        # First what gateways are told: nobody is routed to what the writes below take away.
        self.snapshot.accept(key, plan.entry)
        flipped = await self.writer.write(manifest, plan)
        self._refused.pop(key, None)
        await self.recorder.tell(manifest, plan.notes, flipped=flipped)
        if any(isinstance(found, Unreadable) for found in documents.values()):
            self.queue.retry(key)
            return "unavailable"
        self.queue.forget(key)  # only now: a write that fails must go on backing off
        if plan.requeue_after is None:
            return "success"
        self.queue.add_after(key, plan.requeue_after)
        return "requeue_after"

    async def _look(self, key: Key, manifest: Manifest) -> tuple[Seen | None, dict[Key, Found]]:
        """Fetch what the object refers to and look; then, as long as something lacks, again."""
        documents = await self._fetch(self.controller.references(manifest))
        seen = self.controller.observe(key, self.view(documents), self.environment)
        while seen is not None and (lacks := {*self.controller.lacks(seen)} - documents.keys()):
            documents |= await self._fetch(lacks)
            seen = self.controller.observe(key, self.view(documents), self.environment)
        return seen, documents

    async def _fetch(self, keys: Iterable[Key]) -> dict[Key, Found]:
        """Read the documents of this pass. They are kept nowhere else."""
        keys = tuple(keys)
        found = await asyncio.gather(*(self._read(key) for key in keys))
        return dict(zip(keys, found, strict=True))

    async def _read(self, key: Key) -> Found:
        try:
            return _document(await self.api.get(BY_KIND[key.kind], key.namespace, key.name))
        except NotFound:
            return Missing()
        except HeadgateError as error:
            return Unreadable(str(error))

    async def _say_refused(self, key: Key, error: TerminalError) -> None:
        if (manifest := self.view({}).get(key)) is not None:
            note = Note(Reason.WRITE_REFUSED, str(error), warning=True)
            await self.recorder.say(manifest, note)


async def work(queue: Queue, run: Callable[[Key], Any]) -> None:
    """Be one worker: take keys from the queue for ever."""
    while True:
        key = await queue.get()
        try:
            await run(key)
        finally:
            queue.done(key)


def _document(manifest: Object) -> Document:
    """Read the entries of a Secret, a ConfigMap or a ControllerRevision as bytes."""
    data = manifest.get("data") or {}
    if manifest["kind"] == "ControllerRevision":
        return Document({name: json.dumps(part).encode() for name, part in data.items()})
    if manifest["kind"] == "ConfigMap":
        binary = manifest.get("binaryData") or {}
        texts = {name: text.encode() for name, text in data.items()}
        return Document(texts | {name: base64.b64decode(text) for name, text in binary.items()})
    return Document({name: base64.b64decode(text) for name, text in data.items()})
