"""A stream in segments: preparation first, then what is safe to read, and an end that is one."""

import asyncio
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from headgate_gateway.calls.events import End, Event, Failed, Text, Waiting
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
        self._source = source
        self._exchange = exchange
        self._request = request
        self._outcome = outcome
        self._begin = begin
        self._make_writer = writer
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings = inf  # when it does
        self._segmenter: Segmenter | None = None  # since there is something to hold
        self._writer: Stream | None = None  # since something was given
        self._text = ""  # the last that was given
        self._watch = outcome.watch = Watch()

    async def give(self) -> Refusal | None:
        """Give all of it. Returns why there is none, as long as none of it was given."""
        try:
            return await self._give()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _give(self) -> Refusal | None:
        source, clock = self._source, self._clock
        while True:
            event = source.take()
            if event is None:
                await self._expire_or_wait()
                continue
            if isinstance(event, Waiting):
                await self._beat(event)
                continue
            if isinstance(event, End):
                await self._finish(event)
                return None
            if isinstance(event, Failed):
                return self._fail(event.refusal)
            segmenter = self._segmenter or self._prepared()
            segments = segmenter.feed(event, clock())
            if segments:
                await self._send(segments)

    def _prepared(self) -> Segmenter:
        """There is an answer: from here on it is known which route's rules it is given by."""
        request = self._request
        if request.timeline.first_text is None:
            request.timeline.first_text = self._clock()
        how = request.rule.streaming
        assert how is not None  # noqa: S101 - all routes of a policy say
        segmenter = self._segmenter = make_segmenter(how)
        self._watch.causes = segmenter.causes
        return segmenter

    # Time

    async def _expire_or_wait(self) -> None:
        """Nothing has come. One timer for all that is held, set anew once it has rung."""
        segmenter = self._segmenter
        due = inf if segmenter is None else segmenter.due
        if segmenter is not None and due < inf:
            now = self._clock()
            if now >= due - SOON:
                segments = segmenter.expire(max(now, due))
                if segments:
                    await self._send(segments)
                return
        self._news = self._source.news()
        if due < self._rings:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._rings = self._loop.call_at(due, self._ring), due
        await self._news

    def _ring(self) -> None:
        self._timer, self._rings = None, inf
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # To the client

    async def _beat(self, waiting: Waiting) -> None:
        if not self._exchange.started:
            self._begin()
        await self._exchange.send(heartbeat(waiting))

    async def _send(self, segments: Iterable[Event]) -> None:
        """Write each segment on its own."""
        for segment in segments:
            await self._exchange.send(self._written(segment))

    def _written(self, segment: Event) -> bytes:
        opening, writer = b"", self._writer
        if writer is None:
            if not self._exchange.started:
                self._begin()
            writer = self._writer = self._make_writer()
            opening = writer.opening()
        if isinstance(segment, Text):
            self._text = segment.text
        self._watch.given(segment, self._clock())
        return opening + writer.write(segment)

    async def _finish(self, end: End) -> None:
        if self._segmenter is not None:
            await self._send(self._segmenter.finish())
        self._outcome.end, self._watch.ending = end, "complete"
        self._end(b"", end)

    def _end(self, last: bytes, end: End, stopped: str = "") -> None:
        """Write the end, which is whole in one piece."""
        writer, opening = self._writer, b""
        if writer is None:  # an answer without a word
            if not self._exchange.started:
                self._begin()
            writer = self._make_writer()
            opening = writer.opening()
        self._exchange.finish(opening + last + writer.end(end, stopped))

    def _fail(self, refusal: Refusal) -> Refusal | None:
        """End what has begun: by an error if it is broken, or well if it was stopped."""
        if self._writer is None or self._segmenter is None:
            return refusal
        broken = refusal.code in BROKEN
        self._outcome.fail(refusal.code, refusal.status)
        self._watch.ending = "broken" if broken else "stopped"
        last = b"".join(map(self._written, self._segmenter.stop()))
        if broken:
            self._exchange.finish(last + error_event(refusal, partial=True))
            return None
        filtered = refusal.code == Code.CONTENT_FILTER
        end = End("content_filter" if filtered else "length", self._source.usage)
        self._outcome.end = end
        closure = self._closure(self._segmenter)
        if closure:
            last += self._writer.write(Text(closure))
        self._end(last, end, refusal.code)
        return None

    def _closure(self, segmenter: Segmenter) -> str:
        """What makes a text that was stopped readable. JSON and texts to go on with get nothing."""
        asked = self._request.asked
        if not self._text or not isinstance(asked, ChatRequest):
            return ""
        if isinstance(asked.response_format, ObjectFormat | SchemaFormat):
            return ""
        space = "" if segmenter.close or self._text[-1].isspace() else " "
        return f"{segmenter.close}{space}{CLOSURE}"
