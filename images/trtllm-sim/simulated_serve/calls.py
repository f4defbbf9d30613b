"""From the engine's thread to the event loop: one client of the engine for each request."""

import asyncio
import time
from typing import NamedTuple

from simulated_llm.engine import Progress


class Token(NamedTuple):
    """What one step brings: so many tokens after so many, and whether they are the last."""

    before: int
    sent: int
    last: bool


class Failure(NamedTuple):
    """The generation failed."""

    message: str


class Gone(NamedTuple):
    """Nobody is there to answer to."""


Heard = Token | Failure | Gone


class Listener:
    """See `simulated_llm.engine.Client`."""

    request_id = ""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()
        self.progress: Progress | None = None
        """How far the engine came, and when; complete after the last token."""
        self.arrived = time.monotonic()

    async def hear(self) -> Heard:
        return await self._heard.get()

    def token(self, progress: Progress, *, last: bool) -> None:
        self.progress = progress
        self._put(Token(progress.before, progress.sent, last))

    def fail(self, message: str) -> None:
        self._put(Failure(message))

    def cancel(self) -> None:
        self._put(Gone())

    def expire(self) -> None:
        """Never: this server knows no deadline of requests."""

    def left(self) -> bool:
        return self._transport.is_closing()

    def _put(self, heard: Heard) -> None:
        self._loop.call_soon_threadsafe(self._heard.put_nowait, heard)
