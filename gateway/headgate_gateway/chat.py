"""`POST /v1/chat/completions`: from a whole request to the last byte of its answer."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, assert_never

from headgate_gateway.calls.call import Call, Patience
from headgate_gateway.calls.events import End, Failed, Text, Waiting
from headgate_gateway.edge.errors import JSON, refuse, respond
from headgate_gateway.edge.exchange import Exchange, Headers
from headgate_gateway.outcome import Outcome, Teller
from headgate_gateway.pipeline import Pipeline
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.routing.pods import Pods
from headgate_gateway.routing.tables import Tables
from headgate_gateway.snapshots import Snapshots
from headgate_gateway.streaming.chat import HEARTBEAT, Chunks, Names, completion

EVENT_STREAM: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
NO_TABLES: Final = Tables()
OVERLOADED: Final = Refusal(
    Code.GATEWAY_OVERLOADED, 503, "The gateway serves as many requests as it can.", retry_after=1
)


@dataclass(slots=True)
class Chat:
    """Handles one exchange per call; all of them share what is here."""

    snapshots: Snapshots
    pipeline: Pipeline
    pods: Pods
    patience: Patience
    teller: Teller
    region: str
    most: int  # requests at once
    calls: set[Call] = field(default_factory=set)  # in work

    async def __call__(self, exchange: Exchange) -> None:
        answer = Answer(self, exchange)
        try:
            await answer.give()
        except asyncio.CancelledError:
            answer.outcome.code = "client_closed"
            raise
        except Exception:  # the service counts it and tells the client
            answer.outcome.fail(Code.INTERNAL_ERROR, 500)
            raise
        finally:
            answer.tell()

    def stop(self, refusal: Refusal) -> None:
        """End every call now; clients are told why."""
        for call in list(self.calls):
            call.stop(refusal)


class Answer:
    """One answer while it is given."""

    def __init__(self, chat: Chat, exchange: Exchange) -> None:
        self._chat = chat
        self._exchange = exchange
        self._clock = asyncio.get_running_loop().time
        self._started = self._clock()
        self._request = chat.snapshots.request(exchange.head, exchange.body, time.time())
        self._call: Call | None = None
        self.outcome = Outcome()

    async def give(self) -> None:
        chat = self._chat
        if len(chat.calls) >= chat.most:
            await self._refuse(OVERLOADED)
            return
        verdict = await chat.pipeline.ask(self._request)
        if isinstance(verdict, Refusal):
            await self._refuse(verdict)
            return
        self._request.tables = NO_TABLES  # a long stream must not keep old policies in memory
        call = self._call = Call(chat.pods, self._request.ask, chat.patience)
        chat.calls.add(call)
        try:
            await (self._stream(call) if self._request.chat.stream else self._plain(call))
        finally:
            chat.calls.discard(call)
            call.close()

    def tell(self) -> None:
        seconds = self._clock() - self._started
        self._chat.teller.tell(self._request, self._call, self.outcome, seconds)

    async def _stream(self, call: Call) -> None:
        """Send text as it comes. Status and headers wait for the first of it, or a heartbeat."""
        exchange = self._exchange
        chunks: Chunks | None = None
        opening = b""  # the first chunk, until it leaves together with the first text
        while True:
            event = await call.next()
            if chunks is None and not isinstance(event, Failed):
                chunks = self._start(call)
                opening = chunks.role()
            match event:
                case Text(text):
                    self._note_text()
                    assert chunks is not None  # noqa: S101 - for the type checker
                    piece, opening = opening + chunks.text(text), b""
                    await exchange.send(piece)
                case Waiting():
                    await exchange.send(HEARTBEAT)
                case End() as end:
                    self.outcome.end = end
                    assert chunks is not None  # noqa: S101 - for the type checker
                    exchange.finish(opening + chunks.end(end))
                    return
                case Failed(refusal):
                    await self._refuse(refusal)
                    return
                case _:
                    assert_never(event)

    async def _plain(self, call: Call) -> None:
        texts: list[str] = []
        while True:
            match await call.next():
                case Text(text):
                    self._note_text()
                    texts.append(text)
                case Waiting():
                    continue
                case End() as end:
                    self.outcome.end, self.outcome.status = end, 200
                    body = completion(self._names(call), "".join(texts), end)
                    await respond(self._exchange, 200, [JSON, *self._labels(call)], body)
                    return
                case Failed(refusal):
                    await self._refuse(refusal)
                    return

    async def _refuse(self, refusal: Refusal) -> None:
        self.outcome.fail(refusal.code, refusal.status)
        await refuse(self._exchange, refusal)

    def _note_text(self) -> None:
        if self.outcome.first_text is None:
            self.outcome.first_text = self._clock() - self._started

    def _start(self, call: Call) -> Chunks:
        self.outcome.status = 200
        name = (b"x-request-id", self._exchange.id.encode())
        self._exchange.start(200, [*EVENT_STREAM, name, *self._labels(call)])
        options = self._request.chat.stream_options
        wants = options is not None and options.include_usage is True
        return Chunks(self._names(call), include_usage=wants)

    def _names(self, call: Call) -> Names:
        assert call.cohort is not None  # noqa: S101 - somebody answered
        return Names(
            id=f"chatcmpl-{self._exchange.id}",
            created=int(self._request.now),
            model=self._request.chat.model,
            system_fingerprint=call.cohort.revision,
        )

    def _labels(self, call: Call) -> Headers:
        """What decided about this answer, for whoever debugs it."""
        assert call.cohort is not None  # noqa: S101 - somebody answered
        route = self._request.route
        return [
            (b"x-headgate-model", self._request.model.identity.name.encode()),
            (b"x-headgate-variant", call.cohort.variant.encode()),
            (b"x-headgate-revision", call.cohort.revision.encode()),
            (b"x-headgate-region", self._chat.region.encode()),
            (b"x-headgate-route", route.identity.name.encode() if route is not None else b"direct"),
        ]
