"""An answer that a policy has written: no model is asked."""

from headgate_gateway.calls.events import NOTHING, End, Event, Failed, Text, Usage
from headgate_gateway.calls.source import Give, Source
from headgate_gateway.refusals import Refusal
from headgate_gateway.waking import Signal


class Fixed(Source):
    """See `Source`."""

    def __init__(self, text: str) -> None:
        self._events: list[Event] = [End("stop", NOTHING), Text(text)]

    @property
    def last(self) -> None:
        return None

    @property
    def cohort(self) -> None:
        return None

    @property
    def usage(self) -> Usage:
        return NOTHING

    def take(self) -> Event:
        return self._events.pop() if len(self._events) > 1 else self._events[0]

    def news(self, give: Give | None = None) -> Signal:
        raise AssertionError("it has its events: nobody waits for any")

    def stop(self, refusal: Refusal) -> None:
        self._events = [Failed(refusal)]

    def close(self) -> None: ...
