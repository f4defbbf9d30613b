"""An edge without a gateway behind it, and what clients say to it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from headgate_gateway.edge.connection import Connection
from headgate_gateway.edge.errors import respond
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.server import Edge, Handler
from headgate_gateway.refusals import Refusal

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
GET_AND_CLOSE = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


async def echo(exchange: Exchange) -> None:
    """Answer with the target and the body."""
    path = exchange.head.path.encode()
    respond(exchange, 200, b"", b"%s %s" % (path, exchange.body))


def make_edge(
    handle: Handler = echo,
    limits: Limits | None = None,
    refused: Callable[[Refusal], None] = lambda refusal: None,
) -> Edge:
    numbers = itertools.count(1)
    return Edge(handle, limits or Limits(), ids=lambda: f"r-{next(numbers)}", refused=refused)


@asynccontextmanager
async def serving(
    handle: Handler = echo, limits: Limits | None = None, **more: Any
) -> AsyncIterator[Edge]:
    """An edge that listens on loopback; nobody is connected when it is over."""
    edge = make_edge(handle, limits)
    await edge.listen("127.0.0.1", 0, **more)
    yield edge
    edge.close_listener()
    edge.abort()
    await edge.emptied()


async def dial(edge: Edge, **more: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", edge.port, **more)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer that has a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    return int(head.split()[1]), await reader.readexactly(length)


class Wire(asyncio.Transport):
    """A client's end without a socket: what the edge wrote to it, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.held = 0
        """Bytes that the client has not taken."""
        self.reading = True
        self.ended = ""
        """How the edge ended it: "eof", "close", "abort" or not at all."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.held

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self.ended == "", "nothing is written after the end"
        self.data += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = "eof"

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Client:
    """Speaks to a connection of its own, without a socket."""

    def __init__(self, edge: Edge, wire: Wire | None = None) -> None:
        self.wire = wire or Wire()
        self.connection = Connection(edge)
        self.connection.connection_made(self.wire)

    def late(self) -> None:
        """Let the connection's clock run out."""
        self.connection.late()

    async def send(self, *pieces: bytes) -> None:
        """Send pieces one by one, each as soon as the edge wants it and has done what it can."""
        for piece in pieces:
            if self.wire.ended not in ("", "eof"):
                return
            self.connection.data_received(piece)
            await self.settle()

    async def settle(self) -> None:
        while self.connection._work is not None:  # noqa: ASYNC110 - nobody would tell us
            await asyncio.sleep(0)

    def leave(self) -> None:
        self.connection.connection_lost(None)
