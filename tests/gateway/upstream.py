"""A tiny model server on loopback that does what a test tells it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(slots=True)
class Connection:
    """One connection of the gateway, as a script sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    fields: dict[str, Any] = field(default_factory=dict)
    """Input tensors of the request in work."""
    head: str = ""

    async def begin(self) -> None:
        await self.write(OK)

    async def event(self, **outputs: Any) -> None:
        await self.chunk(b"data: " + json.dumps(outputs).encode() + b"\n\n")

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.write(b"0\r\n\r\n")

    async def answer(self, status: int, body: bytes) -> None:
        await self.write(
            b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)
        )

    async def write(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        self.writer.transport.abort()

    def close(self) -> None:
        """End our side as if all was well."""
        self.writer.close()

    async def left(self) -> None:
        """Wait until the gateway has closed the connection."""
        while await self.reader.read(65536):
            pass


Script: TypeAlias = Callable[[Connection], Awaitable[None]]


class Upstream:
    """Plays `script` for every request, and counts.

    What tells it to stop another request is answered as Triton does, and noted by that one's id.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests = 0
        self.ids: list[str] = []
        self.stopped: list[str] = []
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.cancelled = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._serve, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self.open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        connection = Connection(reader, writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lengths = [
                    int(line.split(":")[1])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length:")
                ]
                connection.head = head
                body = await reader.readexactly(lengths[0]) if lengths else b"{}"
                connection.fields = json.loads(body)
                if connection.fields.get("stop") is True:
                    self.stopped.append(connection.fields["id"])
                    await connection.answer(400, b'data: {"error":"Request cancelled by client"}')
                    continue
                self.requests += 1
                self.ids.append(connection.fields.get("id", ""))
                await self.script(connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.cancelled.set()
        finally:
            self.open.discard(writer)
            writer.transport.abort()


def saying(*words: str, finish: str = "stop") -> Script:
    """The llmapi dialect: all text so far in each event, and a reason in the last."""

    async def script(connection: Connection) -> None:
        await connection.begin()
        for number in range(1, len(words) + 1):
            last = number == len(words)
            reason = finish if last else "None"
            await connection.event(text_output="".join(words[:number]), finish_reason=reason)
        await connection.end()

    return script


def ensemble_saying(*words: str) -> Script:
    """The ensemble's dialect: new text and counts in each event."""

    async def script(connection: Connection) -> None:
        await connection.begin()
        for number, word in enumerate(words, 1):
            await connection.event(text_output=word, num_input_tokens=7, num_output_tokens=number)
        await connection.end()

    return script
