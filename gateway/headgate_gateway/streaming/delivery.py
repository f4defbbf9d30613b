"""The answer on its way to the client: from what a source yields to the bytes of the exchange."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

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


class Delivery:
    """Gives one answer. Either way returns why there is none, as long as nothing has left.

    Args:
        call: what the answer comes from.
        surface: the endpoint.
        labels: makes the header lines that name what decided about the answer.
        clock: s.
    """

    __slots__ = (
        "_call",
        "_clock",
        "_exchange",
        "_labels",
        "_outcome",
        "_request",
        "_stream",
        "_surface",
        "_timeline",
    )

    def __init__(
        self,
        *,
        call: Source,
        surface: Surface,
        exchange: Exchange,
        request: Request,
        outcome: Outcome,
        labels: Callable[[], bytes],
        clock: Callable[[], float],
    ) -> None:
        self._call = call
        self._surface = surface
        self._exchange = exchange
        self._request = request
        self._timeline = request.timeline
        self._outcome = outcome
        self._labels = labels
        self._clock = clock
        self._stream: Stream | None = None  # since something but signs of life was sent

    def stream(self) -> Coroutine[Any, Any, Refusal | None]:
        """Send a stream: in segments where a policy says how. It begins with what comes first."""
        if self._request.rule.streaming is None:
            return self._as_it_comes()
        return Segmented(
            self._call,
            self._exchange,
            self._request,
            self._outcome,
            begin=self._begin,
            writer=self._writer,
            clock=self._clock,
        ).give()

    async def _as_it_comes(self) -> Refusal | None:
        call, exchange, timeline = self._call, self._exchange, self._timeline
        while True:
            event = call.take()
            if event is None:
                await call.news(self._pass)
            elif isinstance(event, Failed):
                return event.refusal
            elif isinstance(event, Waiting):
                if not exchange.started:
                    self._begin()
                await exchange.send(heartbeat(event))
            elif isinstance(event, End):
                self._outcome.end = event
                stream, opening = self._opened()
                exchange.finish(opening + stream.end(event))
                return None
            else:
                if timeline.first_text is None:
                    timeline.first_text = self._clock()
                stream, opening = self._opened()
                await exchange.send(opening + stream.write(event))

    def _pass(self, text: Text, now: float) -> bool:
        """Give text in the very moment in which it comes; see `Source.news`."""
        exchange, stream = self._exchange, self._stream
        if stream is None or exchange.full:
            return False
        exchange.write(stream.write(text))
        return True

    def _opened(self) -> tuple[Stream, bytes]:
        """Return the writer, and what comes before the first that it writes."""
        if self._stream is not None:
            return self._stream, b""
        if not self._exchange.started:
            self._begin()
        stream = self._stream = self._writer()
        return stream, stream.opening()

    async def whole(self) -> Refusal | None:
        """Collect what comes, and send it in one piece."""
        call, timeline = self._call, self._timeline
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
                whole = self._surface.whole(self._names(), self._request.asked)
            if isinstance(event, End):
                self._outcome.end, self._outcome.status = event, 200
                body = whole.body(event)
                respond(self._exchange, 200, JSON + self._labels(), body)
                return None
            if timeline.first_text is None:
                timeline.first_text = self._clock()
            whole.add(event)
            kept += weight(event)
            if kept > MOST_KEPT:
                call.stop(INVALID.refusal)

    def _begin(self) -> None:
        self._outcome.status = 200
        name = b"x-request-id: %s\r\n" % self._exchange.id.encode()
        self._exchange.start(200, EVENT_STREAM + name + self._labels())

    def _writer(self) -> Stream:
        assert self._surface.stream is not None  # noqa: S101 - its requests cannot ask for one
        return self._surface.stream(self._names(), self._request.asked)

    def _names(self) -> Names:
        cohort = self._call.cohort
        return Names(
            id=self._surface.prefix + self._exchange.id,
            created=int(self._request.now),
            model=self._request.asked.model,
            system_fingerprint=cohort.revision if cohort is not None else FIXED,
        )
