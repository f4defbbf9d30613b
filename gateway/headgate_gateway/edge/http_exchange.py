"""An exchange on a connection: how an answer is framed, and what a connection is worth after it."""

from typing import TYPE_CHECKING, final

from headgate_gateway.edge import wire
from headgate_gateway.edge.familiar import Message

if TYPE_CHECKING:
    from headgate_gateway.edge.connection import Connection
    from headgate_gateway.edge.server import Edge


@final
class HttpExchange:
    """See `Exchange`."""

    __slots__ = (
        "_bare",
        "_chunked",
        "_connection",
        "_edge",
        "_unsent",
        "body",
        "closed",
        "head",
        "id",
        "keep",
        "started",
    )

    def __init__(self, connection: "Connection", edge: "Edge", message: Message) -> None:
        # Looked at for every piece that is written, so in one place
        self._connection = connection
        self._chunked = message.chunked  # else the end of a stream is the end of all
        self._bare = message.head.method == "HEAD"
        self.closed = False
        self.started = False
        self._unsent = b""  # the head, until the first piece of the body

        self.id = edge.ids()
        self.head = message.head
        self.body = message.body
        self.keep = message.keep  # the connection outlives the answer
        self._edge = edge

    def detach(self) -> None:
        self._connection.detach()

    def start(self, status: int, headers: bytes, length: int | None = None) -> None:
        self.started = True
        date = self._edge.date.line()
        self.keep = self.keep and not self._edge.draining and (self._chunked or length is not None)
        end = wire.KEEP if self.keep else wire.CLOSE
        if length is not None:
            self._chunked = False
            self._unsent = wire.head(status, headers, date, wire.LENGTH % length, end)
        elif self._chunked:
            self._unsent = wire.head(status, headers, date, wire.CHUNKED, end)
        else:
            self._unsent = wire.head(status, headers, date, end)

    @property
    def full(self) -> bool:
        return self._connection.full is not None

    def write(self, data: bytes) -> None:
        if self._chunked and data and not self._bare and not self.closed:  # as every piece but one
            data = b"%s%s%s\r\n" % (self._unsent, wire.chunk_size(data), data)
            self._unsent = b""
            self._connection.write(data)
        else:
            self._put(data)

    async def send(self, data: bytes) -> None:
        self.write(data)
        if self._connection.full is not None:
            await self._connection.room()

    def finish(self, data: bytes = b"") -> None:
        self._put(data, last=True)
        self.closed = True

    def abort(self) -> None:
        self.closed = True
        self.keep = False
        self._connection.abort()

    def _put(self, data: bytes, *, last: bool = False) -> None:
        if self.closed:
            return
        if self._bare:
            data = b""
        elif self._chunked:
            data = wire.chunk(data) if data else b""
            if last:
                data += wire.LAST_CHUNK
        if self._unsent:
            data, self._unsent = self._unsent + data, b""
        if data:
            self._connection.write(data)
