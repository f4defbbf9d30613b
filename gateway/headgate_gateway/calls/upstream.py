"""A keep-alive connection to a model server: one request, one answer, then the next.

Closing it is how a call is cancelled: Triton frees the slot within 0.1 s of a closed stream, and
never of anything else that a client could do.

Whatever is odd about an answer's end costs the connection: the next answer on it would be read
from the wrong place. The parser is llhttp in its strict mode, which refuses an answer with two
lengths, or with a length and chunks.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast, final

import httptools

from headgate_api.errors import Unavailable

HIGH: Final = 256 * 1024
"""Bytes that nobody has read yet, beyond which the socket is not read either."""
LONGEST_HEAD: Final = 64 * 1024
"""Bytes of an answer that bring nothing of its body: heads, interim answers, trailers."""

NONE: Final = 16
DIGITS: Final = bytes(
    int(chr(byte), 16) if byte in b"0123456789abcdefABCDEF" else NONE for byte in range(256)
)
"""What each byte is worth in the size of a chunk."""
LONGEST_SIZE: Final = 6
CR: Final = 13
LF: Final = 10
EMPTY: Final = b"\n\n"
"""Ends a server-sent event, as all write it."""


class Lost(Unavailable):
    """The connection ended before the answer did."""

    def __init__(self, message: str, *, early: bool) -> None:
        super().__init__(message)
        self.early = early  # not one byte of the answer had come: another server may be asked


@final
class Upstream:
    """See the module. `dial` makes one."""

    __deletable__ = ("_parser",)

    def __init__(self) -> None:
        # Of the answer being read. What is looked at for every event is in one place.
        self.fresh = False
        """Whether `take` has something to say."""
        self._busy = False
        self._touched = False  # at least one byte of it has come
        self._whole = False
        self._between = False  # whole chunks have come, and nothing behind
        self._paused = False
        self._piece = b""  # the first that nobody has read yet
        self._more: list[bytes] | None = None  # those behind it
        self._size = 0
        self.status = 0
        self._lost: str | None = None  # why the connection is gone
        self.on_news: Callable[[], None] | None = None  # set while somebody waits for an answer

        self._framed = False  # it says itself where it ends
        self._empty = 0  # bytes that brought nothing of its body
        self.retry_after: float | None = None  # s, as the answer's head says

        # Of the connection; both when there is one, as we hear nothing more if there is none
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser
        self.used = False  # at least one answer was read from it
        self.on_lost: Callable[[Upstream], None] | None = None  # set while nobody uses it
        self.rests_since = 0.0  # s, when it was given back

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._lost is None and not self._busy and not self._transport.is_closing()

    @property
    def silent(self) -> bool:
        """Whether a request is in work on it of whose answer nothing has come."""
        return self._busy and not self._touched and self._lost is None

    # The caller's side

    def send(self, request: bytes, on_news: Callable[[], None]) -> None:
        """Send a request. `on_news` is called whenever `take` may have something to say."""
        self.on_lost, self.on_news = None, on_news
        self._busy, self._touched, self._whole, self._framed = True, False, False, False
        self._between = self.fresh = False
        self._piece, self._more, self._size, self._empty = b"", None, 0, 0
        self.status, self.retry_after = 0, None
        self._transport.write(request)

    def take(self) -> bytes | None:
        """Take what has come of the answer's body since the last call.

        Returns:
            b"" when the answer is complete; None: nothing has come.

        Raises:
            Lost: the connection ended first, or what came is not HTTP.
        """
        data = self._piece
        if data:
            if self._more is not None:
                data, self._more = b"".join([data, *self._more]), None
            self._piece, self._size = b"", 0
            self.fresh = self._whole or self._lost is not None
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            return data
        if self._whole:
            self._busy, self.used, self.on_news, self.fresh = False, True, None, False
            return b""
        if self._lost is not None:
            raise Lost(self._lost, early=not self._touched)
        return None

    def close(self) -> None:
        """Close at once; a request that is in work there is cancelled by it."""
        self.on_news = None
        self._lost = self._lost or "closed by us"
        self._transport.abort()

    def _tell(self) -> None:
        self.fresh = True
        if self.on_news is not None:
            self.on_news()

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        if not self._busy or self._whole:  # nobody asked: it would spoil the next answer
            self.close()
            return
        self._touched = True
        before = self._size
        piece = _chunk(data) if self._between else b""
        if piece:
            self.on_body(piece)  # the parser would tell the same, and be where it is
        else:
            self._parse(data)
        if self._size == before:
            self._empty += len(data)
            if self._empty > LONGEST_HEAD:
                self._break("its head is too long")
        elif self._size > HIGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        if error is None and self._lost is None and self.status >= 400 and not self._framed:
            # HTTP/1.0: it ends with the connection. Believed of errors only: of anything else
            # nobody could tell whether it was cut.
            self._whole = True
        self._lost = self._lost or (str(error) if error else "closed by the model server")
        del self._parser  # it keeps us as we keep it
        self._tell()
        if self.on_lost is not None:
            self.on_lost(self)

    def eof_received(self) -> None:
        """Let it be closed: `connection_lost` tells."""

    def pause_writing(self) -> None:
        """A request is written at once, however long it is: there is nothing to pause."""

    def resume_writing(self) -> None: ...

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break("it changes the protocol")
        except httptools.HttpParserError as error:
            self._break(f"not HTTP: {error}")
        # An empty line without a CR is of the body, and what follows ends the body's chunk: no
        # framing has one.
        last = self._piece if self._more is None else self._more[-1]
        self._between = last.endswith(EMPTY) and data.endswith(EMPTY + b"\r\n")

    def _break(self, why: str) -> None:
        self._lost = self._lost or why
        self._transport.abort()

    # The parser

    def on_message_begin(self) -> None:
        if self._whole:
            raise ValueError("it answers more than was asked")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding":
            if self._framed or value.lower() != b"chunked":
                raise ValueError("the only transfer coding is chunked")
            self._framed = True
        elif name == b"retry-after" and value.isdigit():
            self.retry_after = float(value)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self._piece:
            self._piece = data
        elif self._more is None:
            self._more = [data]
        else:
            self._more.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if self.status < 200:  # "100 Continue" and its like come before the answer
            self._framed = False
            return
        self._whole = True
        if not self._parser.should_keep_alive():
            self._lost = self._lost or "closed after its answer"
            self._transport.close()


def _chunk(data: bytes) -> bytes:
    r"""Return what is in a chunk. b"": `data` is not just one, in the plainest form.

    >>> _chunk(b"5\r\nhello\r\n"), _chunk(b"5;a=b\r\nhello\r\n"), _chunk(b"5\r\nhel")
    (b'hello', b'', b'')
    """
    if not data.endswith(b"\r\n"):
        return b""
    size = at = 0
    while (digit := DIGITS[data[at]]) < NONE and at < LONGEST_SIZE:
        size, at = size * 16 + digit, at + 1
    plain = size > 0 and data[at] == CR and data[at + 1] == LF and len(data) == at + size + 4
    return data[at + 2 : -2] if plain else b""


async def dial(host: str, port: int, seconds: float) -> Upstream:
    """Connect. `Lost`: refused, unreachable, or no answer within `seconds`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            transport, connection = await loop.create_connection(Upstream, host, port)  # type: ignore[type-var]
    except (OSError, TimeoutError) as error:
        raise Lost(f"{type(error).__name__}: {error}", early=True) from error
    # Else the kernel would take megabytes more for a client that reads slowly.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HIGH)
    return connection
