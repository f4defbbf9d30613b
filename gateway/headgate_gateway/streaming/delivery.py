"""The answer on its way to the client: from what a source yields to the bytes of the exchange."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec import Struct

from headgate_gateway.calls.events import MOST_KEPT, End, Failed, Text, Waiting, weight
from headgate_gateway.calls.failures import INVALID
from headgate_gateway.calls.source import Source
from headgate_gateway.edge.errors import JSON, respond
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.outcome import Outcome
from headgate_gateway.refusals import Refusal
from headgate_gateway.request import Request
from headgate_gateway.streaming.bodies import Names, Stream, Whole, heartbeat
from headgate_gateway.streaming.segmented import Segmented
from headgate_gateway.streaming.surfaces import Surface

FIXED: Final = "fixed"
"""Stands for the revision where no model server was asked: the policy has the answer."""
EVENT_STREAM: Final = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
    b"x-accel-buffering: no\r\n"
)


class Delivery(Struct, kw_only=True):
    """Gives one answer. Either way returns why there is none, as long as nothing has left."""

    call: Source
    """What the answer comes from."""
    surface: Surface
    """The endpoint."""
    exchange: Exchange
    request: Request
    outcome: Outcome
    labels: Callable[[], bytes]
    """Makes the header lines that name what decided about the answer."""
    clock: Callable[[], float]
    """s"""
    _stream: Stream | None = None
    """Since something other than a sign of life was sent."""

    def stream(self) -> Coroutine[Any, Any, Refusal | None]:
        """Send a stream: in segments where a policy says how. It begins with what comes first."""
        if self.request.rule.streaming is None:
            return self._as_it_comes()
        return Segmented(
            self.call,
            self.exchange,
            self.request,
            self.outcome,
            begin=self._begin,
            writer=self._writer,
            clock=self.clock,
        ).give()

    async def _as_it_comes(self) -> Refusal | None:
        call, exchange, timeline = self.call, self.exchange, self.request.timeline
        opening = b""  # what comes first, until it leaves together with something
        while True:
            event = call.take()
            if event is None:
                await call.news(self._pass)
                continue
            if isinstance(event, Failed):
                return event.refusal
            if self._stream is None:
                self._begin()
                self._stream = self._writer()
                opening = self._stream.opening()
            if isinstance(event, End):
                self.outcome.end = event
                exchange.finish(opening + self._stream.end(event))
                return None
            if isinstance(event, Waiting):
                await exchange.send(heartbeat(event))
                continue
            if timeline.first_text is None:
                timeline.first_text = self.clock()
            piece, opening = opening + self._stream.write(event), b""
            await exchange.send(piece)

    def _pass(self, text: Text) -> bool:
        """Give text in the very moment in which it comes; see `Source.news`."""
        exchange, stream = self.exchange, self._stream
        if exchange.full or stream is None or self.request.timeline.first_text is None:
            return False
        exchange.write(stream.write(text))
        return True

    async def whole(self) -> Refusal | None:
        """Collect what comes, and send it in one piece."""
        call, timeline = self.call, self.request.timeline
        whole: Whole | None = None
        kept = 0
        while True:
            event = call.take()
            if event is None:
                await call.news()
                continue
            if isinstance(event, Failed):
                return event.refusal
            if isinstance(event, Waiting):
                continue
            if whole is None:
                whole = self.surface.whole(self._names(), self.request.asked)
            if isinstance(event, End):
                self.outcome.end, self.outcome.status = event, 200
                body = whole.body(event)
                respond(self.exchange, 200, JSON + self.labels(), body)
                return None
            if timeline.first_text is None:
                timeline.first_text = self.clock()
            whole.add(event)
            kept += weight(event)
            if kept > MOST_KEPT:
                call.stop(INVALID.refusal)

    def _begin(self) -> None:
        self.outcome.status = 200
        name = b"x-request-id: %s\r\n" % self.exchange.id.encode()
        self.exchange.start(200, EVENT_STREAM + name + self.labels())

    def _writer(self) -> Stream:
        assert self.surface.stream is not None  # noqa: S101 - its requests cannot ask for one
        return self.surface.stream(self._names(), self.request.asked)

    def _names(self) -> Names:
        cohort = self.call.cohort
        return Names(
            id=self.surface.prefix + self.exchange.id,
            created=int(self.request.now),
            model=self.request.asked.model,
            system_fingerprint=cohort.revision if cohort is not None else FIXED,
        )
