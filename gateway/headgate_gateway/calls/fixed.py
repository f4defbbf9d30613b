"""An answer that a policy has written: no model is asked."""

import asyncio
from typing import Final

from headgate_gateway.calls.events import NOTHING, End, Event, Failed, Text
from headgate_gateway.calls.source import Give
from headgate_gateway.refusals import Refusal


class Fixed:
    """See `Source`."""

    last: Final = None
    cohort: Final = None
    usage: Final = NOTHING

    def __init__(self, text: str) -> None:
        self._events: list[Event] = [End("stop", NOTHING), Text(text)]

    def take(self) -> Event:
        return self._events.pop() if len(self._events) > 1 else self._events[0]

    def news(self, give: Give | None = None) -> asyncio.Future[None]:
        """It has: nobody waits."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.set_result(None)
        return waiting

    def stop(self, refusal: Refusal) -> None:
        self._events = [Failed(refusal)]

    def close(self) -> None: ...
