"""The work queue: which object to look at next. Events fold into keys, keys come one at a time.

client-go's rules: a key is never in two hands; added while in hand, it comes again afterwards;
added ten times, it comes once; failed, it waits longer each time, with jitter.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Protocol

from headgate_controllers.contract import Key
from headgate_operator.metrics import QUEUE_ADDS, QUEUE_DEPTH, QUEUE_RETRIES

FIRST_PAUSE: Final = 0.02  # s, doubled after each failure in a row
LONGEST_PAUSE: Final = 60.0  # s


class Handle(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """The part of an event loop that the queue needs; tests bring their own."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[Key], None], key: Key, /) -> Handle: ...


class Queue:
    """The keys of one controller."""

    def __init__(
        self, name: str, clock: Clock, *, chance: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._ready: deque[Key] = deque()
        self._dirty: set[Key] = set()  # to be worked on: ready, or busy and wanted again
        self._busy: set[Key] = set()  # in the hands of a worker
        # When each is due and how to stop it: a handle of uvloop's need not know its own time.
        self._timers: dict[Key, tuple[float, Handle]] = {}
        self._failures: Counter[Key] = Counter()
        self._wake = asyncio.Event()
        self._adds = QUEUE_ADDS.labels(name)
        self._retries = QUEUE_RETRIES.labels(name)
        QUEUE_DEPTH.labels(name).set_function(self.__len__)

    def __len__(self) -> int:
        """How many keys wait for a worker."""
        return len(self._ready)

    def add(self, key: Key) -> None:
        """Have `key` worked on as soon as a worker is free."""
        self._stop_timer(key)
        if key in self._dirty:
            return
        self._adds.inc()
        self._dirty.add(key)
        if key not in self._busy:
            self._make_ready(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Have `key` worked on in `seconds`, or earlier where that was promised before."""
        at = self._clock.time() + seconds
        timer = self._timers.get(key)
        if key in self._dirty or (timer is not None and timer[0] <= at):
            return
        self._stop_timer(key)
        self._timers[key] = (at, self._clock.call_at(at, self._due, key))

    def retry(self, key: Key, *, not_before: float | None = None) -> None:
        """Have a key that failed worked on again, later each time, not before `not_before` s."""
        self._retries.inc()
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures[key], 32))
        self._failures[key] += 1
        self.add_after(key, max(pause * self._chance(0.5, 1.0), not_before or 0.0))

    def forget(self, key: Key) -> None:
        """Start from the shortest pause again: the key was worked on with success."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """Wait for a key. Whoever gets it must say `done`."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._busy.add(key)
        return key

    def done(self, key: Key) -> None:
        """Give back a key, whatever became of it."""
        self._busy.discard(key)
        if key in self._dirty:
            self._make_ready(key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _stop_timer(self, key: Key) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer[1].cancel()

    def _make_ready(self, key: Key) -> None:
        self._ready.append(key)
        self._wake.set()
