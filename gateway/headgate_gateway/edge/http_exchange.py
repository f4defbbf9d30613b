"""An exchange on a connection: how an answer is framed, and what a connection is worth after it."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate_gateway.edge import wire
from headgate_gateway.edge.exchange import Head, Headers

if TYPE_CHECKING:
    from headgate_gateway.edge.connection import Connection
    from headgate_gateway.edge.server import Edge


@dataclass(slots=True, eq=False)
class HttpExchange:
    """See `Exchange`."""

    connection: "Connection"
    edge: "Edge"
    id: str
    head: Head
    body: bytes
    keep: bool  # the connection outlives the answer
    chunked: bool  # the client understands chunks; else the end of a stream is the end of all
    started: bool = False
    closed: bool = False
    _unsent: bytes = b""  # the head, until the first piece of the body

    def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        self.started = True
        self.keep = self.keep and not self.edge.draining and (self.chunked or length is not None)
        framing = [self.edge.date.line()]
        if length is not None:
            self.chunked = False
            framing.append(b"content-length: %d\r\n" % length)
        elif self.chunked:
            framing.append(wire.CHUNKED)
        framing.append(wire.KEEP if self.keep else wire.CLOSE)
        self._unsent = wire.head(status, headers, *framing)

    async def send(self, data: bytes) -> None:
        self._write(data)
        await self.connection.room()

    def finish(self, data: bytes = b"") -> None:
        self._write(data, last=True)
        self.closed = True

    def abort(self) -> None:
        self.closed = True
        self.keep = False
        self.connection.abort()

    def worked(self, task: asyncio.Task[None]) -> None:
        """The handler has ended. Only a finished answer leaves the connection usable."""
        if not self.closed:
            self.abort()
        if not task.cancelled():
            task.exception()  # told by the handler; asyncio must not tell it again
        self.connection.worked(len(self.body), keep=self.keep)

    def _write(self, data: bytes, *, last: bool = False) -> None:
        if self.closed:
            return
        if self.head.method == "HEAD":
            data = b""
        elif self.chunked:
            data = (wire.chunk(data) if data else b"") + (wire.LAST_CHUNK if last else b"")
        data, self._unsent = self._unsent + data, b""
        if data:
            self.connection.write(data)
