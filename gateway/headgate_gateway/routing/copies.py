"""A map whose new version shares with the old one all that did not change.

A snapshot of ten thousand tenants is swapped while requests are served. Copying one large dict
would hold up the event loop; here the keys lie in 256 small ones, and only those that change are
copied.
"""

from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar, final

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PARTS: Final = 256


@final
class SharedMap(Generic[K, V]):
    """Read-only. `edit()` begins the next version.

    >>> one = SharedMap[str, int]()
    >>> draft = one.edit()
    >>> draft["a"] = 1
    >>> two = draft.done()
    >>> one.get("a"), two.get("a")
    (None, 1)
    """

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[dict[K, V], ...] | None = None) -> None:
        # All empty parts are one dict: nobody writes into the parts of a finished map.
        self.parts = parts or ({},) * PARTS

    def get(self, key: K) -> V | None:
        return self.parts[hash(key) % PARTS].get(key)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def values(self) -> Iterator[V]:
        for part in self.parts:
            yield from part.values()

    def edit(self) -> "Draft[K, V]":
        return Draft(self.parts)


@final
class Draft(Generic[K, V]):
    """The next version of a `SharedMap`, while it is made. What it came from never changes."""

    __slots__ = ("_copied", "_parts")

    def __init__(self, parts: tuple[dict[K, V], ...]) -> None:
        self._parts = list(parts)
        self._copied: set[int] = set()

    def get(self, key: K) -> V | None:
        return self._parts[hash(key) % PARTS].get(key)

    def __setitem__(self, key: K, value: V) -> None:
        self._own(key)[key] = value

    def drop(self, key: K) -> None:
        self._own(key).pop(key, None)

    def done(self) -> SharedMap[K, V]:
        return SharedMap(tuple(self._parts))

    def _own(self, key: K) -> dict[K, V]:
        index = hash(key) % PARTS
        if index not in self._copied:
            self._copied.add(index)
            self._parts[index] = dict(self._parts[index])
        return self._parts[index]
