"""One client's connection: bytes in, exchanges out, in the order in which they were asked.

A request is handed over when it is whole, and the next one only when it is answered. What a client
sends ahead meanwhile waits unparsed, up to a limit at which the socket is no longer read. Until
then the socket is watched, because only reading tells that a client has gone away. A client that
closes its sending side has gone away.

Nothing is begun for a client that has not taken its earlier answers: a few bytes sent ahead would
else become any amount of unsent answers in memory.

Whatever could make two parties disagree about where a message ends is refused, and the connection
closed: nothing that follows can be trusted to be a request.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import httptools

from headgate_gateway.edge import heads, wire
from headgate_gateway.edge.errors import error_body, refusal_headers
from headgate_gateway.edge.exchange import Head
from headgate_gateway.edge.http_exchange import HttpExchange
from headgate_gateway.refusals import Refusal

if TYPE_CHECKING:
    from headgate_gateway.edge.server import Edge

SLICE: Final = 16 * 1024
"""Bytes parsed at once: bounds how many requests can wait parsed."""
OURS: Final = (b"x-headgate-", b"x-gateway-", b"forwarded")
"""Inbound headers that begin so are dropped: only the gateway says such things."""


class Connection(asyncio.Protocol):
    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        self._limits = edge.limits
        self._parser = httptools.HttpRequestParser(self)

        # Of the connection
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None  # set while the client reads too slowly
        self._task: asyncio.Task[None] | None = None  # answers the exchange in work
        self._queue: deque[HttpExchange] = deque()  # parsed, waiting for their turn
        self._ahead = bytearray()  # not parsed yet
        self._fault: Refusal | None = None  # nothing after it is read
        self._held = 0  # bytes of bodies that are not answered yet
        self._ending = False  # our side is closed, or about to be
        self._messages = 0  # begun so far

        # Of the message being read
        self._in_message = False
        self._in_body = False
        self._timed = 0  # the message whose head has a timer
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._lines = 0
        self._head_size = 0  # bytes of names and values
        self._size = 0  # bytes read for it that are not body, but for its first piece
        self._body: list[bytes] = []
        self._length = 0  # bytes of body

    @property
    def idle(self) -> bool:
        return self._task is None and not self._in_message and not self._queue

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self._transport.set_write_buffer_limits(high=self._limits.write_bytes)
        if self._edge.joined(self):
            self._watch(self._limits.head_seconds, self.close)
        else:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._ending = True
        self._unwatch()
        self._queue.clear()
        self._hold(-self._held)
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()
        self._edge.left(self)

    def data_received(self, data: bytes) -> None:
        if self._ending or self._fault is not None:
            return
        if self._task is None and self._room is None:
            self._feed(data)
            return
        self._ahead += data  # in work, or not read yet: wait for our turn
        if len(self._ahead) > self._limits.ahead_bytes:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None
            if self._task is None and not self._ending:
                self._next()

    # The parser

    def on_message_begin(self) -> None:
        self._messages += 1
        self._in_message, self._in_body = True, False
        self._url, self._headers, self._lines, self._head_size = b"", {}, 0, 0
        self._body, self._length, self._size = [], 0, 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer: nothing can be said after the head
        self._lines += 1
        self._head_size += len(name) + len(value)
        name = name.lower()
        if name.startswith(OURS):
            return
        before = self._headers.get(name)
        self._headers[name] = value if before is None else b"%s, %s" % (before, value)

    def on_headers_complete(self) -> None:
        self._in_body = True
        limits = self._limits
        if self._lines > limits.headers or self._head_size > limits.head_bytes:
            self._refuse(heads.LONG_HEAD)
            return
        version = self._parser.get_http_version()
        fault = heads.head_fault(version, self._url, self._headers, limits)
        if self._parser.should_upgrade():
            self._refuse(heads.UPGRADE)
        elif fault is not None:
            self._refuse(fault)
        elif b"expect" in self._headers and self._task is None and not self._queue:
            self.write(wire.CONTINUE)

    def on_body(self, data: bytes) -> None:
        self._length += len(data)
        if self._length > self._limits.body_bytes:
            self._refuse(heads.long_body(self._limits))
        elif self._edge.held + len(data) > self._limits.bodies_bytes:
            self._refuse(heads.FULL)
        if self._fault is None:
            self._body.append(data)
            self._hold(len(data))

    def on_message_complete(self) -> None:
        self._in_message = False
        if self._fault is not None:
            return
        path = self._url.partition(b"?")[0].decode("ascii", "replace")
        head = Head(self._parser.get_method().decode(), path, self._headers)
        exchange = HttpExchange(
            self,
            self._edge,
            self._edge.ids(),
            head,
            b"".join(self._body),
            keep=self._parser.should_keep_alive(),
            chunked=self._parser.get_http_version() == "1.1",
        )
        self._queue.append(exchange)

    def _refuse(self, refusal: Refusal) -> None:
        if self._fault is None:
            self._fault = refusal
            self._body.clear()

    def _hold(self, size: int) -> None:
        self._held += size
        self._edge.held += size

    # From bytes to exchanges

    def _feed(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            self._parse(data[start : start + SLICE])
            if self._queue or self._fault is not None:
                self._ahead += data[start + SLICE :]
                break
        self._next()

    def _parse(self, data: bytes) -> None:
        message, length = self._messages, self._length
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(heads.UPGRADE)
        except httptools.HttpParserError:
            self._refuse(heads.MALFORMED)
        if self._in_message and message == self._messages:
            # Bounds what the parser holds or skips: half a header line, extensions of chunks.
            self._size += len(data) - (self._length - length)
            if self._size > self._limits.head_bytes + 8 * self._length:
                self._refuse(heads.MALFORMED if self._in_body else heads.LONG_HEAD)

    def _next(self) -> None:
        """Go on with whatever comes next. Called when nothing is in work."""
        if self._room is not None:
            self._watch(self._limits.send_seconds, self.abort)
        elif self._queue:
            self._unwatch()
            exchange = self._queue.popleft()
            self._task = asyncio.get_running_loop().create_task(self._edge.handle(exchange))
            self._task.add_done_callback(exchange.worked)
        elif self._fault is not None:
            self._say_and_close(self._fault)
        elif self._ahead:
            data = bytes(self._ahead)
            self._ahead.clear()
            self._transport.resume_reading()
            self._feed(data)
        elif self._in_message:
            if self._in_body:
                self._watch(self._limits.body_seconds, self._late)
            elif self._timed != self._messages:  # one deadline, however it trickles in
                self._timed = self._messages
                self._watch(self._limits.head_seconds, self._late)
        elif self._edge.draining:
            self.close()
        else:
            self._watch(self._limits.idle_seconds, self.close)

    def worked(self, size: int, *, keep: bool) -> None:
        """The exchange in work, with a body of `size` bytes, is answered."""
        self._task = None
        self._hold(-min(size, self._held))  # nothing is held for a client that has left
        if self._ending:
            return
        if keep:
            self._next()
        else:
            self.close()

    # Endings and clocks

    def close(self) -> None:
        """End after what was written has left, unless the client does not take it."""
        self._ending = True
        self._transport.close()
        self._watch(self._limits.send_seconds, self._transport.abort)

    def abort(self) -> None:
        self._ending = True
        self._transport.abort()

    def _late(self) -> None:
        self._refuse(heads.LATE)
        self._say_and_close(heads.LATE)

    def _say_and_close(self, refusal: Refusal) -> None:
        """Answer outside of any exchange, then close so that the client can still read it.

        A socket that is closed with unread input is reset, and the answer is lost with it.
        """
        self._edge.refused(refusal)
        body = error_body(refusal)
        length = b"content-length: %d\r\n" % len(body)
        framing = (self._edge.date.line(), length, wire.CLOSE)
        self.write(wire.head(refusal.status, refusal_headers(refusal), *framing) + body)
        self._ending = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._watch(self._limits.linger_seconds, self._transport.abort)

    def _watch(self, seconds: float, late: Callable[[], None]) -> None:
        self._unwatch()
        self._timer = asyncio.get_running_loop().call_later(seconds, late)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # For the exchange in work

    def write(self, data: bytes) -> None:
        if not self._ending:
            self._transport.write(data)

    async def room(self) -> None:
        """Wait until the client has read enough; drop one that does not read at all."""
        if self._room is not None:
            self._watch(self._limits.send_seconds, self.abort)
            await self._room
            self._unwatch()
