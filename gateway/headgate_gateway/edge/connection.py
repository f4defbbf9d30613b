"""One client's connection: bytes in, exchanges out, in the order in which they were asked.

A request is handed over when it is whole, and the next one only when it is answered. What a client
sends ahead meanwhile waits unparsed, up to a limit at which the socket is no longer read. Until
then the socket is watched, because only reading tells that a client has gone away. A client that
closes its sending side has gone away.

Nothing is begun for a client that has not taken its earlier answers: a few bytes sent ahead would
else become any amount of unsent answers in memory.

The clock of a connection is one number that the `Edge` looks at now and then: a timer for each
request would cost more than reading it.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, cast, final

from headgate_gateway.edge import heads, wire
from headgate_gateway.edge.errors import error_body, refusal_headers
from headgate_gateway.edge.http_exchange import HttpExchange
from headgate_gateway.edge.messages import Reader
from headgate_gateway.refusals import Refusal
from headgate_gateway.waking import Signal, Work

if TYPE_CHECKING:
    from headgate_gateway.edge.server import Edge


@final
class Connection:
    """One client's. The loop takes it for an `asyncio.Protocol`."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        self._limits = edge.limits
        self._loop = asyncio.get_running_loop()
        # Both when there is a connection: of one that TLS refuses we hear nothing more.
        self._transport: asyncio.Transport
        self._reader: Reader
        self.full: Signal | None = None
        """Set while the client has so much to read that no more should be written."""
        self._ending = False  # our side is closed, or about to be
        self._unsent = 0  # bytes that it had not taken when that was looked at last
        self._exchange: HttpExchange | None = None  # in work
        self._work: Work | None = None  # answers it
        self._detached = False  # which goes on when the client goes away
        self._ahead = bytearray()  # not read yet
        self._lost = False  # so is theirs
        self._timed = 0  # the message that has a deadline
        self._begun = 0.0  # s, when the clock of its body started

        self.until = inf
        """When `late` is to be called, on the loop's clock."""
        # Not bound to us: we would then stay until the garbage collector comes by.
        self._late: Callable[[Connection], None] = Connection.abort

    @property
    def idle(self) -> bool:
        return self._work is None and not self._reader.reading and not self._reader.ready

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        edge = self._edge
        self._transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self._transport.set_write_buffer_limits(high=self._limits.write_bytes)
        self._reader = Reader(self._limits, edge.bodies, edge.familiar)
        if edge.joined(self):
            self._watch(self._limits.head_seconds, Connection.close)
        else:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._ending = self._lost = True
        self.until = inf
        self._reader.close()
        if self._work is None or not self._detached:
            self._leave()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._ending or self._reader.fault is not None:
            return
        if self._work is None and self.full is None:
            self._feed(data)
            return
        self._keep(data)  # it waits for its turn
        if len(self._ahead) > self._limits.ahead_bytes:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def pause_writing(self) -> None:
        self.full = Signal()

    def resume_writing(self) -> None:
        room, self.full = self.full, None
        if room is None:
            return
        if self._work is not None:
            room.fire()
        elif not self._ending:
            self._next()

    # From bytes to exchanges

    def _feed(self, data: bytes) -> None:
        rest = self._reader.feed(data)
        if rest:
            self._keep(rest)
        if not self._ending:
            self._next()

    def _keep(self, data: bytes) -> None:
        self._ahead += data
        if not self._reader.hold(len(data)):
            self.abort()

    def _next(self) -> None:
        """Go on with whatever comes next. Called when nothing is in work."""
        reader = self._reader
        if self.full is not None:
            self._await_reader()
        elif reader.ready:
            self.until = inf
            exchange = HttpExchange(self, self._edge, reader.ready.pop(0))
            self._exchange = exchange
            self._work = Work(self._edge.handle(exchange), self._loop, self._answered)
            self._work.start()
        elif reader.fault is not None:
            self._say_and_close(reader.fault)
        elif self._ahead:
            data = bytes(self._ahead)
            self._ahead.clear()
            self._reader.release(len(data))
            self._transport.resume_reading()
            self._feed(data)
        elif reader.reading:
            self._await_rest()
        elif self._edge.draining:
            self.close()
        elif self.until == inf:  # else it runs already: empty lines before a request gain no time
            self._watch(self._limits.idle_seconds, Connection.close)

    def _answered(self) -> None:
        if self._reader.ready or self._ahead:
            self._loop.call_soon(
                self._settle
            )  # what it asked ahead is no reason to let others wait
        else:
            self._settle()

    def _settle(self) -> None:
        """Let go of an exchange that was answered."""
        exchange, self._exchange, self._work = self._exchange, None, None
        assert exchange is not None  # noqa: S101 - it was in work
        self._detached = False
        self._reader.release(len(exchange.body))
        if self._lost:
            self._leave()
        elif not exchange.closed:  # only a finished answer leaves the connection usable
            self.abort()
        elif not self._ending:
            if exchange.keep:
                self._next()
            else:
                self.close()

    def _await_rest(self) -> None:
        """Give the message being read its time: one deadline, however it trickles in."""
        reader, limits = self._reader, self._limits
        if reader.in_body:
            if self._timed != -reader.begun:
                self._timed, self._begun = -reader.begun, self._loop.time()
                if refusal := self._edge.admit(reader.head):
                    reader.refuse(refusal)
                    self._say_and_close(refusal)
                    return
                if reader.waits():
                    self.write(wire.CONTINUE)
            seconds = limits.body_seconds + reader.length / limits.body_rate
            self.until, self._late = self._begun + seconds, Connection._too_late
        elif self._timed != reader.begun:
            self._timed = reader.begun
            self._watch(limits.head_seconds, Connection._too_late)

    # Endings and clocks

    def close(self) -> None:
        """End after what was written has left, unless the client does not take it."""
        self._ending = True
        self._transport.close()
        self._await_reader()

    def abort(self) -> None:
        self._ending = True
        self._transport.abort()

    def drop(self) -> None:
        """Cut it, and what is in work too, detached or not."""
        self._detached = False
        if self._lost:
            self._leave()
        else:
            self.abort()

    def _leave(self) -> None:
        if self._work is not None:
            self._work.cancel(self._loop.time())  # since when nobody listens
        self._edge.left(self)

    def late(self) -> None:
        self.until = inf
        self._late(self)

    def _watch(self, seconds: float, late: "Callable[[Connection], None]") -> None:
        self.until, self._late = self._loop.time() + seconds, late

    def _too_late(self) -> None:
        self._reader.refuse(heads.LATE)
        self._say_and_close(heads.LATE)

    def _await_reader(self) -> None:
        """Wait for a client that must first take what was written."""
        self._unsent = self._transport.get_write_buffer_size()
        self._watch(self._limits.send_seconds, Connection._unread)

    def _unread(self) -> None:
        """Drop a client that takes next to nothing; one that is only slow gets its answer."""
        taken = self._unsent - self._transport.get_write_buffer_size()
        if taken < self._limits.send_bytes:
            self.abort()
        else:
            self._await_reader()

    def _say_and_close(self, refusal: Refusal) -> None:
        """Answer outside of any exchange, then close so that the client can still read it.

        A socket that is closed with unread input is reset, and the answer is lost with it.
        """
        self._edge.refused(refusal)
        body = error_body(refusal)
        framing = (self._edge.date.line(), wire.LENGTH % len(body), wire.CLOSE)
        self.write(wire.head(refusal.status, refusal_headers(refusal), *framing) + body)
        self._ending = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
            self._watch(self._limits.linger_seconds, Connection.abort)
        else:  # TLS says goodbye by itself, and reads until the client does
            self.close()

    # For the exchange in work

    def detach(self) -> None:
        self._detached = True

    def write(self, data: bytes) -> None:
        if not self._ending:
            self._transport.write(data)

    async def room(self) -> None:
        """Wait until the client has read enough; drop one that does not read at all."""
        if self.full is not None:
            self._await_reader()
            await self.full
            self.until = inf
