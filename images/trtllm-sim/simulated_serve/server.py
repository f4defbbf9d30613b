"""The HTTP side: `trtllm-serve`'s paths, statuses and ways to fail."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final, TypeAlias

from aiohttp import web

from simulated_llm import prose
from simulated_llm.answer import answer
from simulated_llm.engine import Engine
from simulated_llm.settings import Model
from simulated_serve.cache import PrefixCache
from simulated_serve.calls import Failure, Gone, Listener, Token
from simulated_serve.metrics import Metrics
from simulated_serve.questions import Asked, Chat, Completion, read
from simulated_serve.writing import Writer, error

KEEP_ALIVE: Final = 5.0  # s
CHECKED_EVERY: Final = 1000.0
"""Milliseconds between two looks whether the client is still there."""
BODY: Final = 32 * 1024 * 1024
QUEUE_FULL: Final = "Maximum queue size reached, dropping request."

Answered: TypeAlias = web.StreamResponse


class Refused(Exception):
    """The request gets an error instead of an answer."""


@dataclass(slots=True, kw_only=True)
class Server:
    """One model behind HTTP."""

    name: str
    """What /v1/models calls it. Requests may call it anything."""
    model: Model
    metrics: Metrics
    tools: bool = False
    reasoning: bool = False

    def app(self) -> web.Application:
        """Make the application; the engine runs as long as it does."""
        settings = self.model.settings
        engine = Engine(self.model, self.metrics.publish)
        service = _Service(self, engine, PrefixCache(settings.kv_blocks, settings.tokens_per_block))

        async def running(_: web.Application) -> AsyncIterator[None]:
            engine.start()
            yield
            await asyncio.to_thread(engine.stop)

        app = web.Application(client_max_size=BODY)
        app.cleanup_ctx.append(running)
        app.add_routes(
            [
                web.get("/health", service.health),
                web.get("/version", service.version),
                web.get("/v1/models", service.models),
                web.get("/metrics", service.iterations),
                web.post("/v1/completions", service.complete),
                web.post("/v1/chat/completions", service.chat),
            ]
        )
        if self.metrics.published:
            app.add_routes([web.get("/prometheus/metrics", service.prometheus)])
            app.add_routes([web.get("/prometheus/metrics/", service.prometheus)])
        return app


class _Service:
    """The handlers."""

    def __init__(self, server: Server, engine: Engine, cache: PrefixCache) -> None:
        self._server = server
        self._engine = engine
        self._cache = cache
        self._ids = count(1)

    async def health(self, _: web.Request) -> Answered:
        return web.Response()

    async def version(self, _: web.Request) -> Answered:
        return web.json_response({"version": "0.0.0+simulated"})

    async def models(self, _: web.Request) -> Answered:
        card = {"id": self._server.name, "object": "model", "created": int(time.time())}
        return web.json_response({"object": "list", "data": [card | {"owned_by": "tensorrt_llm"}]})

    async def iterations(self, _: web.Request) -> Answered:
        return web.json_response(self._server.metrics.iteration())

    async def prometheus(self, _: web.Request) -> Answered:
        text = self._server.metrics.exposition()
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def complete(self, request: web.Request) -> Answered:
        return await self._answer(request, Completion)

    async def chat(self, request: web.Request) -> Answered:
        return await self._answer(request, Chat)

    async def _answer(self, request: web.Request, kind: type[Asked]) -> Answered:
        try:
            asked = read(kind, await request.read())
        except ValueError as problem:
            return web.json_response({"error": str(problem)}, status=400)
        try:
            writer, listener = self._submit(request, asked)
            if asked.stream:
                return await self._stream(request, writer, listener)
            return await self._whole(writer, listener)
        except (Refused, ValueError) as problem:
            return web.json_response(error(str(problem), 400, "BadRequestError"), status=400)

    def _submit(self, request: web.Request, asked: Asked) -> tuple[Writer, Listener]:
        model = self._server.model
        made = answer(asked.ask(), model.drift, model.variant)
        made = replace(made, cached_tokens=self._cache.reuse(prose.tokens(asked.text())))
        kind = "chatcmpl" if isinstance(asked, Chat) else "cmpl"
        writer = Writer(
            id=f"{kind}-{next(self._ids)}",
            created=int(time.time()),
            asked=asked,
            answer=made,
            reasoning=self._server.reasoning,
            tools=self._server.tools,
        )
        transport = request.transport
        if transport is None:
            raise Refused("the client has gone")
        listener = Listener(asyncio.get_running_loop(), transport)
        if not self._engine.submit(listener, made):
            raise Refused(QUEUE_FULL)
        return writer, listener

    async def _whole(self, writer: Writer, listener: Listener) -> Answered:
        while True:
            match await listener.hear():
                case Token(sent=sent, last=True):
                    self._observe(listener)
                    return web.json_response(writer.whole(sent))
                case Token():
                    pass
                case Failure(message):
                    raise Refused(message)
                case Gone():
                    raise Refused("the client has gone")

    async def _stream(self, request: web.Request, writer: Writer, listener: Listener) -> Answered:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)  # at once, whatever becomes of it
        began = False
        with contextlib.suppress(ConnectionError):  # the engine notices by itself
            while True:
                match await listener.hear():
                    case Token(before, sent, last):
                        events = [*(() if began else writer.opening())]
                        events += writer.tokens(before, sent, last=last)
                        began = True
                        if last:
                            self._observe(listener)
                            events += writer.closing(sent)
                        await _write(response, events)
                        if last:
                            break
                    case Failure():
                        # The status was 200 long ago: it can only break off.
                        if request.transport is not None:
                            request.transport.abort()
                        break
                    case Gone():
                        break
        return response

    def _observe(self, listener: Listener) -> None:
        if listener.progress is not None:
            self._server.metrics.observe(listener.progress)


async def _write(response: web.StreamResponse, events: Iterable[Any]) -> None:
    await response.write(b"".join(events))
