"""A keep-alive connection to a model server: one request, one answer, then the next.

Closing it is how a call is cancelled: Triton frees the slot within 0.1 s of a closed stream, and
never of anything else that a client could do.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import httptools

from headgate_api.errors import Unavailable

HIGH: Final = 256 * 1024
"""Bytes that nobody has read yet, beyond which the socket is not read either."""


class Lost(Unavailable):
    """The connection ended before the answer did."""

    def __init__(self, message: str, *, early: bool) -> None:
        super().__init__(message)
        self.early = early  # not one byte of the answer had come: another server may be asked


class Upstream(asyncio.Protocol):
    """See the module. `dial` makes one."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

        # Of the connection
        self._transport: asyncio.Transport
        self._lost: str | None = None  # why it is gone
        self._paused = False
        self.used = False  # at least one answer was read from it
        self.on_lost: Callable[[Upstream], None] | None = None  # set while nobody uses it

        # Of the answer being read
        self._busy = False
        self._touched = False  # at least one byte of it has come
        self._whole = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._woken = False
        self.status = 0

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._lost is None and not self._busy and not self._transport.is_closing()

    # The caller's side

    def send(self, request: bytes) -> None:
        self.on_lost = None
        self._busy, self._touched, self._whole, self._woken = True, False, False, False
        self._pieces, self._size, self.status = [], 0, 0
        self._transport.write(request)

    async def read(self) -> bytes | None:
        """Wait for more of the answer's body.

        Returns:
            What has come since the last call; b"" when the answer is complete; None after `wake`.

        Raises:
            Lost: the connection ended first, or what came is not HTTP.
        """
        while True:
            if self._pieces:
                data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces, self._size = [], 0
                if self._paused:
                    self._paused = False
                    self._transport.resume_reading()
                return data
            if self._whole:
                self._busy, self.used = False, True
                return b""
            if self._lost is not None:
                raise Lost(self._lost, early=not self._touched)
            if self._woken:
                self._woken = False
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def wake(self) -> None:
        """Let a `read` that waits return None."""
        self._woken = True
        self._wake()

    def close(self) -> None:
        """Close at once; a request that is in work there is cancelled by it."""
        self._lost = self._lost or "closed by us"
        self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self, why: str) -> None:
        self._lost = self._lost or why
        self._wake()

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own

    def data_received(self, data: bytes) -> None:
        if not self._busy:  # nobody asked: whatever it is, it would spoil the next answer
            self.close()
            return
        self._touched = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")
            self._transport.abort()
        if self._size > HIGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error) if error is not None else "closed by the model server")
        if self.on_lost is not None:
            self.on_lost(self)

    # The parser

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if self.status < 200:  # "100 Continue" and its like come before the answer
            return
        self._whole = True
        if not self._parser.should_keep_alive():
            self._end("closed after its answer")
            self._transport.close()


async def dial(host: str, port: int, seconds: float) -> Upstream:
    """Connect. `Lost`: refused, unreachable, or no answer within `seconds`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(Upstream, host, port)
    except (OSError, TimeoutError) as error:
        raise Lost(f"{type(error).__name__}: {error}", early=True) from error
    return connection
