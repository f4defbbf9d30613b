"""Where the events of one answer come from: a call, several of them, or nobody at all."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from headgate_api.snapshot import Cohort
from headgate_gateway.calls.attempt import Attempt
from headgate_gateway.calls.events import Event, Text, Usage
from headgate_gateway.refusals import Refusal
from headgate_gateway.waking import Signal

Give: TypeAlias = Callable[[Text, float], bool]
"""Gives text to the client in the very moment in which it comes, which is told, too. False: it was
not taken."""


class Source(ABC):
    """`take()` events until `End` or `Failed`, then `close()`, whatever happened."""

    __slots__ = ()

    @property
    @abstractmethod
    def last(self) -> Attempt | None:
        """The attempt that gave the answer, or the newest. None: no model server was asked."""

    @property
    @abstractmethod
    def cohort(self) -> Cohort | None:
        """Of that attempt."""

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """What the answer has cost so far."""

    @abstractmethod
    def take(self) -> Event | None:
        """Take the next event; None: wait for `news()`."""

    @abstractmethod
    def news(self, give: Give | None = None) -> Signal:
        """Wait until `take` may have something to say. Who will not wait so long may fire it.

        `give`: is offered text that comes meanwhile, so that no token wakes who waits. A source
        need not do so; what was not taken is left to `take`.
        """

    @abstractmethod
    def stop(self, refusal: Refusal) -> None:
        """Fail with `refusal`, now."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything. An answer still being made is cancelled."""
