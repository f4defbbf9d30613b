"""Every change of the cluster comes through here: into the store, then onto the queues."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Final, Protocol

from headgate_controllers.contract import Cache, Controller, Key, Manifest, Watch, key_of
from headgate_operator.store import Store, version_of

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
    _held: dict[Key, list[tuple[float, Callable[[], None]]]] = field(default_factory=dict)
    """By object that we are writing: what was told of it meanwhile, with the version."""

    def __post_init__(self) -> None:
        self._watches = {}
        for controller in self.controllers:
            for watch in controller.watches:
                self._watches.setdefault(watch.kind, []).append(watch)

    def put(self, manifest: Manifest) -> None:
        """Take in an object as it is now, and wake all that it concerns."""
        if (held := self._held.get(key_of(manifest))) is not None:
            held.append((version_of(manifest), partial(self.put, manifest)))
        else:
            self._take(manifest, None)

    def gone(self, key: Key, uid: str | None = None) -> None:
        """Take in that an object is gone; with a `uid`, only if it is that one that we knew."""
        if (held := self._held.get(key)) is not None:
            held.append((inf, partial(self.gone, key, uid)))
        elif (last := self.store.drop(key, uid)) is not None:
            self._wake([last], None)

    @contextmanager
    def writing(self, key: Key) -> Iterator[None]:
        """Hold back what is told of an object until our own write of it was answered.

        The watch tells a write before the answer is here, when nobody can say yet whose it is.
        """
        self._held.setdefault(key, [])
        try:
            yield
        finally:
            for _, tell in self._held.pop(key, ()):
                tell()

    def wrote(self, manifest: Manifest, *, by: Key | None) -> None:
        """Take in the answer to our own write, and wake all that it concerns but the writer, `by`.

        What others did before and after it is their news, and wakes the writer, too.
        """
        held, version = self._held.pop(key_of(manifest), []), version_of(manifest)
        for at, tell in held:
            if at < version:
                tell()
        self._take(manifest, by)
        for at, tell in held:
            if at >= version:
                tell()

    def wake(self, manifest: Manifest) -> None:
        """Have every controller look again at what `manifest` concerns."""
        self._wake([manifest], None)

    def _take(self, manifest: Manifest, but: Key | None) -> None:
        before = self.store.get(key_of(manifest))
        if self.store.put(manifest):
            self._wake(filter(None, (before, manifest)), but)

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
