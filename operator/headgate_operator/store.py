"""What the cluster looked like when we last heard: every object once, as slim as decisions allow.

A model's Deployment, pods and nodes lose most of their spec: nothing decides from it, and it is
most of the memory. Reads are dictionary look-ups; `owned` is an index.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from sys import intern
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from headgate_api.labels import MODEL_UID
from headgate_controllers.contract import Key, Manifest, key_of


def _deployment(manifest: Manifest) -> dict[str, Any]:
    return {"spec": _only(manifest.get("spec"), "replicas"), "status": manifest.get("status", {})}


def _pod(manifest: Manifest) -> dict[str, Any]:
    return {"spec": _only(manifest.get("spec"), "nodeName"), "status": manifest.get("status", {})}


def _node(manifest: Manifest) -> dict[str, Any]:
    """Without resourceVersion and conditions, so that a heartbeat is no change."""
    meta = _only(manifest["metadata"], "name", "uid", "labels", "deletionTimestamp")
    return {
        "metadata": meta,
        "spec": _only(manifest.get("spec"), "taints", "unschedulable"),
        "status": _only(manifest.get("status"), "allocatable", "capacity"),
    }


def _only(part: Mapping[str, Any] | None, *names: str) -> dict[str, Any]:
    return {name: part[name] for name in names if name in part} if part else {}


def _whole(manifest: Manifest) -> dict[str, Any]:
    return {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind", "metadata")}


def _nothing(_: Manifest) -> dict[str, Any]:
    return {}


SLIM: Final[Mapping[str, Callable[[Manifest], dict[str, Any]]]] = MappingProxyType(
    {
        "ConfigMap": _nothing,
        "ControllerRevision": _nothing,
        "Deployment": _deployment,
        "NetworkPolicy": _nothing,
        "Node": _node,
        "Pod": _pod,
        "PodDisruptionBudget": _nothing,
        "Secret": _nothing,
        "Service": _nothing,
    }
)
"""What is kept beside the metadata. The kinds of users, which are not here, stay whole."""
OWNER: Final = "owner/"
Index: TypeAlias = Callable[[Manifest], Iterable[str]]
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
"""The whole manifest again, as kubectl puts it into an annotation."""


class Store:
    """Objects by key, by the uid that they belong to, and by the words of their kind's index."""

    def __init__(self, indexes: Mapping[str, Index] = MappingProxyType({})) -> None:
        self._indexes = indexes
        # By namespace, then name. A namespace that is empty is not there: they come and go.
        self._kinds: defaultdict[str, dict[str, dict[str, Manifest]]] = defaultdict(dict)
        self._words: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)

    def get(self, key: Key) -> Manifest | None:
        return self._kinds[key.kind].get(key.namespace, {}).get(key.name)

    def all(self, kind: str, namespace: str | None = None) -> Iterable[Manifest]:
        if namespace is not None:
            return self._kinds[kind].get(namespace, {}).values()
        return chain.from_iterable(names.values() for names in self._kinds[kind].values())

    def owned(self, kind: str, uid: str) -> Iterator[Manifest]:
        """Objects of `kind` that `uid` controls; pods by their label, as a ReplicaSet owns them."""
        return self.find(kind, f"{OWNER}{uid}")

    def find(self, kind: str, word: str) -> Iterator[Manifest]:
        """Objects of `kind` that have `word` in their index, in the order of their names."""
        for key in sorted(self._words.get((kind, word), ())):
            yield self._kinds[kind][key.namespace][key.name]

    def uids(self, kind: str) -> dict[Key, str]:
        """Which objects of `kind` there are."""
        return {key_of(manifest): manifest["metadata"]["uid"] for manifest in self.all(kind)}

    def put(self, manifest: Manifest) -> bool:
        """Remember an object, and say whether that is news.

        A version older than the one we have is none: what a write answered is here before the
        watch tells it.
        """
        key = key_of(manifest)
        before = self.get(key)
        if before is not None and not _newer(manifest, before):
            return False
        after = _shared(_slim(manifest))
        if before == after:
            return False
        if before is not None:
            self._unlink(key, before)
        self._kinds[key.kind].setdefault(key.namespace, {})[key.name] = after
        for word in self._words_of(after):
            self._words[key.kind, word].add(key)
        return True

    def drop(self, key: Key, uid: str | None = None) -> Manifest | None:
        """Forget an object and return it; with a `uid` only the one that has it."""
        before = self.get(key)
        if before is None or (uid is not None and before["metadata"]["uid"] != uid):
            return None
        self._unlink(key, before)
        names = self._kinds[key.kind][key.namespace]
        del names[key.name]
        if not names:
            del self._kinds[key.kind][key.namespace]
        return before

    def _unlink(self, key: Key, manifest: Manifest) -> None:
        for word in self._words_of(manifest):
            keys = self._words[key.kind, word]
            keys.discard(key)
            if not keys:
                del self._words[key.kind, word]

    def _words_of(self, manifest: Manifest) -> set[str]:
        words = {f"{OWNER}{uid}" for uid in _owners(manifest)}
        if (index := self._indexes.get(manifest["kind"])) is not None:
            words.update(index(manifest))
        return words


def _slim(manifest: Manifest) -> Manifest:
    meta = manifest["metadata"]
    if LAST_APPLIED in (noted := meta.get("annotations", {})):
        meta = meta | {"annotations": {k: v for k, v in noted.items() if k != LAST_APPLIED}}
    head = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": meta}
    return head | SLIM.get(manifest["kind"], _whole)(manifest)


def _shared(part: Any) -> Any:
    """Keep equal strings once: keys, labels, owners and reasons are the same in thousands."""
    if isinstance(part, str):
        return intern(part)
    if isinstance(part, dict):
        return {intern(name): _shared(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_shared(value) for value in part]
    return part


def _owners(manifest: Manifest) -> Iterable[str]:
    meta = manifest["metadata"]
    if (uid := meta.get("labels", {}).get(MODEL_UID)) is not None:
        yield uid
    for owner in meta.get("ownerReferences", ()):
        if owner.get("controller"):
            yield owner["uid"]


def version_of(manifest: Manifest) -> int:
    """Read an object's version: comparable numbers on every API server (KEP-5504)."""
    return int(manifest["metadata"].get("resourceVersion", -1))


def _newer(manifest: Manifest, before: Manifest) -> bool:
    """Tell whether `manifest` is the later of two versions of one object.

    A slim node has no version; the next one is always later.
    """
    same = before["metadata"]["uid"] == manifest["metadata"]["uid"]
    return not same or version_of(manifest) > version_of(before)
