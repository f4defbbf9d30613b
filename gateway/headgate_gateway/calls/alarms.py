"""One timer of the event loop's for the clocks of all calls.

A clock hardly ever rings, and a timer of its own costs a request more than all that is told of it.
So a clock is a number, and all of them are looked at when the earliest may have come.
"""

import asyncio
from math import inf
from typing import Final, Protocol

APART: Final = 0.0005
"""s between two looks at all clocks, at least: a thousand of them take 0.05 ms."""


class Clock(Protocol):
    rings_at: float
    """s on the event loop's clock."""

    def ring(self) -> None: ...


class Alarms:
    """All clocks. Whoever sets one to ring before `rings_at` has the timer wound."""

    def __init__(self) -> None:
        self.clocks: set[Clock] = set()
        self.rings_at = inf
        self._timer: asyncio.TimerHandle | None = None

    def wind(self, at: float) -> None:
        """Set the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self.rings_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._ring)

    def drop(self, clock: Clock) -> None:
        self.clocks.discard(clock)
        if not self.clocks and self._timer is not None:
            self._timer.cancel()
            self._timer, self.rings_at = None, inf

    def _ring(self) -> None:
        # The loop's clock is coarse: what was waited for is due, even where it seems too early.
        now = max(self.rings_at, asyncio.get_running_loop().time())
        self._timer, self.rings_at = None, inf
        for clock in [clock for clock in self.clocks if clock.rings_at <= now]:
            if clock.rings_at <= now and clock in self.clocks:  # the one before may have ended it
                clock.rings_at = inf
                clock.ring()
        earliest = min([clock.rings_at for clock in self.clocks], default=inf)
        if earliest < self.rings_at:
            self.wind(max(earliest, now + APART))
