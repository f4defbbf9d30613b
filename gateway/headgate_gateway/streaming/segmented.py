"""A stream in segments: preparation first, then what is safe to read, and an end that is one."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Final

from headgate_api.snapshot import StreamingBody
from headgate_gateway.calls.events import End, Event, Failed, Reasoning, Text, Waiting
from headgate_gateway.calls.source import Source
from headgate_gateway.edge.chat_request import ChatRequest, ObjectFormat, SchemaFormat
from headgate_gateway.edge.errors import error_event
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.outcome import Outcome
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.request import Request
from headgate_gateway.streaming.bodies import Stream, heartbeat
from headgate_gateway.streaming.segments import Segmenter, segmenter as make_segmenter
from headgate_gateway.streaming.watch import Watch
from headgate_gateway.waking import Signal

BROKEN: Final = frozenset(
    {
        Code.UPSTREAM_ERROR,
        Code.UPSTREAM_INVALID,
        Code.UPSTREAM_LOST,
        Code.UPSTREAM_OVERLOADED,
        Code.UPSTREAM_REFUSED,
        Code.UPSTREAM_TIMEOUT,
        Code.UPSTREAM_UNAVAILABLE,
        Code.INVALID_OUTPUT,
        Code.INTERNAL_ERROR,
    }
)
"""Ends of an answer that nobody wanted: they stay errors. All others are stops."""
CLOSURE: Final = "…"
"""Says in any language that more was to come."""
SOON: Final = 0.0005
"""s; what is due by then is done together."""
LARGE: Final = 2048
"""Characters that are looked at in one go."""
TURN: Final = 16
"""Segments that are given in one turn of the event loop: others wait for theirs."""
SHORT: Final = 256
"""Characters whose segments are given in the very turn in which they come, however many."""


class Segmented:
    """Gives one answer in segments.

    Args:
        source: what it comes from.
        exchange: where it goes to.
        begin: sends status and headers.
        writer: makes the writer of chunks, once it is known who answers.
    """

    def __init__(
        self,
        source: Source,
        exchange: Exchange,
        request: Request,
        outcome: Outcome,
        *,
        begin: Callable[[], None],
        writer: Callable[[], Stream],
        clock: Callable[[], float],
    ) -> None:
        # Looked at for every event, so in one place
        self._exchange = exchange
        self._segmenter: Segmenter | None = None  # since there is something to hold
        self._writer: Stream | None = None  # since something was given
        self._watch = outcome.watch = Watch()
        self._last = ""  # character that was given

        self._source = source
        self._request = request
        self._outcome = outcome
        self._begin = begin
        self._make_writer = writer
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: Signal | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings = inf  # when it does
        self._turn = 0  # segments that were given without a look at others

    async def give(self) -> Refusal | None:
        """Give all of it. Returns why there is none, as long as none of it was given."""
        source, clock = self._source, self._clock
        segmenter: Segmenter | None = None
        try:
            while True:
                event = source.take()
                if event is None:
                    if segmenter is None or (now := clock()) < segmenter.due - SOON:
                        await self._news(inf if segmenter is None else segmenter.due)
                    else:
                        await self._send(segmenter.expire(max(now, segmenter.due)))
                elif isinstance(event, Waiting):
                    await self._beat(event)
                elif isinstance(event, End):
                    await self._finish(event)
                    return None
                elif isinstance(event, Failed):
                    return self._fail(event.refusal)
                else:
                    segmenter = segmenter or self._prepared()
                    for piece in pieces(event):
                        segments = segmenter.feed(piece, clock())
                        if segments:
                            await self._send(segments)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _prepared(self) -> Segmenter:
        """There is an answer: from here on it is known which route's rules it is given by."""
        request = self._request
        if request.timeline.first_text is None:
            request.timeline.first_text = self._clock()
        segmenter = self._segmenter = make_segmenter(request.rule.streaming or StreamingBody())
        self._watch.causes = segmenter.causes
        return segmenter

    # Time

    def _news(self, due: float) -> Signal:
        """Wait for news, or until `due`. The one timer is only ever set anew to ring earlier."""
        self._waiting = self._source.news(self._pass)
        if due < self._rings:
            self._wind(due)
        return self._waiting

    def _wind(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings = self._loop.call_at(due, self._ring), due

    def _ring(self) -> None:
        self._timer, self._rings = None, inf
        if self._waiting is not None:
            self._waiting.fire()

    # To the client

    def _pass(self, text: Text, now: float) -> bool:
        """Give text in the very moment in which it comes; see `Source.news`."""
        segmenter, exchange = self._segmenter, self._exchange
        if segmenter is None or exchange.full or len(text.text) > SHORT:
            return False
        if segmenter.passes(text.text):
            exchange.write(self._written(text, now))
            return True
        for segment in segmenter.feed(text, now):
            exchange.write(self._written(segment, now))
        if segmenter.due < self._rings:
            self._wind(segmenter.due)
        return True

    async def _beat(self, waiting: Waiting) -> None:
        if not self._exchange.started:
            self._begin()
        await self._exchange.send(heartbeat(waiting))

    async def _send(self, segments: Iterable[Event]) -> None:
        """Write each segment on its own."""
        for segment in segments:
            await self._exchange.send(self._written(segment, self._clock()))
            self._turn += 1
            if self._turn == TURN:
                self._turn = 0
                await asyncio.sleep(0)

    def _written(self, segment: Event, now: float) -> bytes:
        if isinstance(segment, Text):
            self._last = segment.text[-1:]
        self._watch.given(segment, now)
        if self._writer is not None:
            return self._writer.write(segment)
        writer, opening = self._opened()
        return opening + writer.write(segment)

    def _opened(self) -> tuple[Stream, bytes]:
        """Return the writer, and what comes before the first that it writes."""
        if self._writer is not None:
            return self._writer, b""
        if not self._exchange.started:
            self._begin()
        writer = self._writer = self._make_writer()
        return writer, writer.opening()

    async def _finish(self, end: End) -> None:
        if self._segmenter is not None:
            await self._send(self._segmenter.finish())
        self._outcome.end, self._watch.ending = end, "complete"
        writer, opening = self._opened()
        self._exchange.finish(opening + writer.end(end))

    def _fail(self, refusal: Refusal) -> Refusal | None:
        """End what has begun: by an error if it is broken, or well if it was stopped."""
        if self._writer is None or self._segmenter is None:
            return refusal
        broken = refusal.code in BROKEN
        self._outcome.fail(refusal.code, refusal.status)
        self._watch.ending = "broken" if broken else "stopped"
        now = self._clock()
        last = b"".join(self._written(segment, now) for segment in self._segmenter.stop())
        if self._segmenter.withheld:
            self._watch.withheld = refusal.code
        if broken:
            self._exchange.finish(last + error_event(refusal, partial=True))
            return None
        filtered = refusal.code == Code.CONTENT_FILTER
        end = End("content_filter" if filtered else "length", self._source.usage)
        self._outcome.end = end
        closure = self._closure(self._segmenter)
        if closure:
            last += self._writer.write(Text(closure))
        self._exchange.finish(last + self._writer.end(end, refusal.code))
        return None

    def _closure(self, segmenter: Segmenter) -> str:
        """What makes a text that was stopped readable. JSON and texts to go on with get nothing."""
        asked = self._request.asked
        if not self._last or not isinstance(asked, ChatRequest):
            return ""
        if isinstance(asked.response_format, ObjectFormat | SchemaFormat):
            return ""
        space = "" if segmenter.close or self._last.isspace() else " "
        return f"{segmenter.close}{space}{CLOSURE}"


def pieces(event: Event) -> Iterable[Event]:
    """Return an event in pieces that are quickly looked at. Where text is cut they do not say."""
    if not isinstance(event, (Text, Reasoning)) or len(event.text) <= LARGE:
        return (event,)
    return (event,) if isinstance(event, Text) and event.logprobs else _parts(event)


def _parts(event: Text | Reasoning) -> Iterator[Event]:
    for begin in range(0, len(event.text), LARGE):
        yield type(event)(event.text[begin : begin + LARGE])
