"""Writes what a plan wants, and nothing that is there already. Status comes last, once."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Protocol

import msgspec

from headgate_api.errors import Conflict, NotFound, TerminalError
from headgate_api.labels import APPLIED
from headgate_controllers.contract import Key, Manifest, Plan, key_of
from headgate_kube.client import Object
from headgate_kube.resources import BY_KIND, Resource
from headgate_operator.metrics import WRITES
from headgate_operator.store import Store

MANAGER: Final = "headgate"
STATUS_MANAGER: Final = "headgate-status"
IMMUTABLE: Final = frozenset({"ConfigMap", "ControllerRevision"})
"""Children of these kinds are named by their content and cannot be edited."""


class Api(Protocol):
    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object: ...
    async def apply(
        self, manifest: Mapping[str, Any], *, manager: str, force: bool = True
    ) -> Object: ...
    async def apply_status(self, manifest: Mapping[str, Any], *, manager: str) -> Object: ...
    async def merge(
        self, resource: Resource, namespace: str | None, name: str, patch: Mapping[str, Any]
    ) -> Object: ...
    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str | None = None
    ) -> bool: ...


class Feed(Protocol):
    """Our own writes are in the store before the watch tells them."""

    def writing(self, key: Key) -> AbstractContextManager[None]: ...
    def wrote(self, manifest: Manifest, *, by: Key | None) -> None: ...


@dataclass(slots=True)
class Writer:
    """Applies children and status by server-side apply.

    A child is left alone while its annotation says that this very manifest was applied, and it has
    not changed since this process saw it so. A new leader therefore applies each child once: an
    edit that came while nobody led is healed, too.
    """

    api: Api
    store: Store
    feed: Feed
    _settled: dict[Key, dict[Key, tuple[str, str]]] = field(default_factory=dict)
    """By owner and child: uid and version that our own write gave it."""

    async def write(self, owner: Manifest, plan: Plan) -> bool:
        """Make it so, and say whether the status changed.

        Raises:
            TerminalError: the API server refuses a child. Status was written all the same.
        """
        refused: TerminalError | None = None
        try:
            await self._children(owner, plan)
        except TerminalError as error:
            refused = error
        changed = await self._status(owner, plan.status)
        if refused is not None:
            raise refused
        return changed

    def forget(self, owner: Key) -> None:
        """The owner is gone, and its children go with it."""
        self._settled.pop(owner, None)

    async def _children(self, owner: Manifest, plan: Plan) -> None:
        for key, replicas in plan.scaled:
            await self._scale(owner, key, replicas)
        for child in plan.wanted:
            await self._apply(owner, child)
        for key in plan.unwanted:
            await self._delete(owner, key)

    async def _apply(self, owner: Manifest, child: Manifest) -> None:
        key, digest = key_of(child), _digest(child)
        known = self.store.get(key)
        if known is not None and _applied(known) == digest and self._unchanged(owner, key, known):
            return
        meta = child["metadata"]
        noted = {**meta.get("annotations", {}), APPLIED: digest}
        manifest = {**child, "metadata": {**meta, "annotations": noted}}
        # Without force where we know of no child of ours: somebody else may have the name.
        force = known is not None and _owns(owner, known)
        with self.feed.writing(key):
            try:
                answer = await self.api.apply(manifest, manager=MANAGER, force=force)
            except Conflict:
                await self._must_be_ours(owner, key)
                answer = await self.api.apply(manifest, manager=MANAGER)
            WRITES.labels(key.kind, "apply").inc()
            if key.kind not in IMMUTABLE:
                settled = self._settled.setdefault(key_of(owner), {})
                settled[key] = (answer["metadata"]["uid"], _version(answer))
            self.feed.wrote(answer, by=key_of(owner))

    def _unchanged(self, owner: Manifest, key: Key, known: Manifest) -> bool:
        if key.kind in IMMUTABLE:
            return True
        settled = self._settled.get(key_of(owner), {})
        return settled.get(key) == (known["metadata"]["uid"], _version(known))

    async def _must_be_ours(self, owner: Manifest, key: Key) -> None:
        """Refuse to take over an object that something else made."""
        try:
            found = await self.api.get(BY_KIND[key.kind], key.namespace, key.name)
        except NotFound:
            return
        if not _owns(owner, found):
            raise TerminalError(
                f"{key.kind} {key.namespace}/{key.name} exists and belongs to something else; "
                "delete or rename it, then Headgate makes its own"
            )

    async def _scale(self, owner: Manifest, key: Key, replicas: int) -> None:
        patch = {"spec": {"replicas": replicas}}
        try:
            answer = await self.api.merge(BY_KIND[key.kind], key.namespace, key.name, patch)
        except NotFound:
            return  # gone already
        WRITES.labels(key.kind, "scale").inc()
        # It wakes the owner, too: what has no pods now may be deleted in its next pass.
        self.feed.wrote(answer, by=None)

    async def _delete(self, owner: Manifest, key: Key) -> None:
        self._settled.get(key_of(owner), {}).pop(key, None)
        if (known := self.store.get(key)) is None:
            return
        uid = known["metadata"]["uid"]
        if await self.api.delete(BY_KIND[key.kind], key.namespace, key.name, uid=uid):
            WRITES.labels(key.kind, "delete").inc()

    async def _status(self, owner: Manifest, status: Manifest) -> bool:
        key = key_of(owner)
        now = self.store.get(key)
        if now is None or now.get("status", {}) == status:
            return False
        meta = {name: owner["metadata"][name] for name in ("name", "namespace", "uid")}
        manifest = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "metadata": meta,
            "status": status,
        }
        with self.feed.writing(key):
            try:
                answer = await self.api.apply_status(manifest, manager=STATUS_MANAGER)
            except NotFound:
                return False  # deleted a moment ago: nobody will read it
            WRITES.labels(key.kind, "status").inc()
            # The answer has the spec, too: where somebody has edited it, it is not what we saw.
            planned = answer["metadata"]["generation"] == owner["metadata"]["generation"]
            self.feed.wrote(answer, by=key if planned else None)
        return True


def _owns(owner: Manifest, child: Manifest) -> bool:
    references = child["metadata"].get("ownerReferences", ())
    uid = owner["metadata"]["uid"]
    return any(reference.get("controller") and reference["uid"] == uid for reference in references)


def _digest(manifest: Manifest) -> str:
    text = msgspec.json.encode(manifest, order="deterministic")
    return blake2b(text, digest_size=16).hexdigest()


def _applied(known: Manifest) -> str | None:
    digest: str | None = known["metadata"].get("annotations", {}).get(APPLIED)
    return digest


def _version(manifest: Manifest) -> str:
    """What changes when somebody edits the object: its generation, where the kind has one."""
    meta = manifest["metadata"]
    return str(meta.get("generation") or meta["resourceVersion"])
