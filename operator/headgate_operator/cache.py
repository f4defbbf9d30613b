"""The read-only view of one pass: the store, what the pass fetched, and what else is known.

A Secret's content is here for one pass and nowhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from headgate_api.snapshot import Entry
from headgate_controllers.contract import Found, Key, Manifest, Programmed, Unreadable
from headgate_operator.store import Store

NOT_FETCHED = Unreadable("not fetched by this pass")


class Snapshot(Protocol):
    """What is in force, or will be with the next write."""

    def accepted(self, key: Key) -> Entry | None: ...
    def entries(self, kind: str) -> Iterable[Entry]: ...
    def holders(self, kind: str, word: str) -> Iterable[Entry]: ...


class Gateways(Protocol):
    def programmed(self, key: Key, generation: int) -> Programmed: ...


class Probes(Protocol):
    def answered(self, pod_uid: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class View:
    """Implements `contract.Cache`."""

    store: Store
    snapshot: Snapshot
    gateways: Gateways
    probes: Probes
    documents: Mapping[Key, Found]

    def get(self, key: Key) -> Manifest | None:
        return self.store.get(key)

    def all(self, kind: str, namespace: str | None = None) -> Iterable[Manifest]:
        return self.store.all(kind, namespace)

    def owned(self, kind: str, uid: str) -> Iterable[Manifest]:
        return self.store.owned(kind, uid)

    def find(self, kind: str, word: str) -> Iterable[Manifest]:
        return self.store.find(kind, word)

    def document(self, key: Key) -> Found:
        return self.documents.get(key, NOT_FETCHED)

    def accepted(self, key: Key) -> Entry | None:
        return self.snapshot.accepted(key)

    def entries(self, kind: str) -> Iterable[Entry]:
        return self.snapshot.entries(kind)

    def holders(self, kind: str, word: str) -> Iterable[Entry]:
        return self.snapshot.holders(kind, word)

    def programmed(self, key: Key, generation: int) -> Programmed:
        return self.gateways.programmed(key, generation)

    def answered(self, pod_uid: str) -> str | None:
        return self.probes.answered(pod_uid)
