"""Every change of the cluster comes through here: into the store, then onto the queues."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from headgate_controllers.contract import Cache, Controller, Key, Manifest, Watch, key_of
from headgate_operator.store import Store

SETTLE: Final = 0.02  # s; a burst of events about one object makes one pass


class Queue(Protocol):
    def add_after(self, key: Key, seconds: float) -> None: ...


@dataclass(slots=True)
class Feed:
    """Wakes the controllers that a change concerns. A standby only keeps its store."""

    store: Store
    view: Cache
    controllers: Iterable[Controller[Any]]
    queues: Mapping[str, Queue]
    hears: Callable[[Key], None] = lambda _: None  # told of every change before the controllers
    awake: bool = False
    """False while this process does not lead, or has not seen the whole cluster yet."""
    _watches: dict[str, list[Watch]] = field(init=False)

    def __post_init__(self) -> None:
        self._watches = {}
        for controller in self.controllers:
            for watch in controller.watches:
                self._watches.setdefault(watch.kind, []).append(watch)

    def put(self, manifest: Manifest, *, but: Key | None = None) -> None:
        """Take in an object as it is now, and wake all that it concerns but `but`."""
        before = self.store.get(key_of(manifest))
        if self.store.put(manifest):
            self._wake(filter(None, (before, manifest)), but)

    def gone(self, key: Key, uid: str | None = None) -> None:
        """Take in that an object is gone; with a `uid`, only if it is that one that we knew."""
        if (last := self.store.drop(key, uid)) is not None:
            self._wake([last], None)

    def wake(self, manifest: Manifest) -> None:
        """Have every controller look again at what `manifest` concerns."""
        self._wake([manifest], None)

    def _wake(self, versions: Iterable[Manifest], but: Key | None) -> None:
        if not self.awake:
            return
        for manifest in versions:
            self.hears(key_of(manifest))
            for watch in self._watches.get(manifest["kind"], ()):
                for key in watch.wakes(manifest, self.view):
                    if key != but:
                        self.queues[key.kind].add_after(key, SETTLE)

    def start(self, keys: Iterable[Key] = ()) -> None:
        """Begin to wake, with everything that there is and `keys`."""
        self.awake = True
        for kind in self.queues:
            for key in self.store.uids(kind):
                self.queues[kind].add_after(key, 0.0)
        for key in keys:
            self.queues[key.kind].add_after(key, 0.0)
        for pod in list(self.store.uids("Pod")):
            self.hears(pod)
