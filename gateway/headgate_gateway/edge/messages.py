"""From bytes to whole requests, without a socket or a clock.

Whatever could make two parties disagree about where a message ends is a fault, and nothing behind
a fault is read: it cannot be trusted to be a request.
"""

from dataclasses import dataclass
from typing import Any, Final, final

import httptools

from headgate_gateway.edge import heads
from headgate_gateway.edge.exchange import LENGTH, Head
from headgate_gateway.edge.familiar import Familiar, Message, cut
from headgate_gateway.edge.limits import Limits
from headgate_gateway.refusals import Refusal

SLICE: Final = 16 * 1024
"""Bytes parsed at once: bounds how many requests can wait parsed."""


@dataclass(slots=True)
class Bodies:
    """Bytes of all clients: bodies until they are answered, and what waits to be read."""

    most: int
    held: int = 0


@final
class Reader:
    """Reads what one client sends.

    Args:
        limits: sizes of what it may send.
        bodies: shared by all clients.
        familiar: as `bodies`.
    """

    def __init__(self, limits: Limits, bodies: Bodies, familiar: Familiar) -> None:
        self._limits = limits
        self._bodies = bodies
        self._familiar = familiar
        self._parser: Any = None
        """Made when it is needed, which it is not for heads that are known: it takes 1 KB."""

        # Of the connection
        self.ready: list[Message] = []
        """Whole requests, in their order."""
        self.fault: Refusal | None = None
        """Why nothing more is read."""
        self.begun = 0
        """Messages begun so far."""
        self._held = 0  # bytes of bodies that are not answered yet, and of what waits unread
        self._between = True  # the next byte may begin a message

        # Of the message being read
        self.reading = False
        self.in_body = False
        self.head: Head
        """Once `in_body`, if there is no fault."""
        self.length = 0
        """Bytes of its body so far."""
        self._expects = False  # it waits for a go-ahead before it sends the body
        self._modern = False  # HTTP/1.1
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeats = 0  # header lines with a name that was there before
        self._size = 0  # bytes read for it that are not body, but for its first slice
        self._slice = 0  # bytes of the slice that is being read
        self._body: bytes | bytearray = b""

    def feed(self, data: bytes) -> bytes:
        """Read on, at most to the end of the slice in which a request or a fault is complete.

        Returns:
            What was not read.
        """
        if len(data) <= SLICE:
            if not (self._between and self._recognize(data)):
                self._parse(data)
            return b""
        for start in range(0, len(data), SLICE):
            self._parse(data[start : start + SLICE])
            if self.ready or self.fault is not None:
                return data[start + SLICE :]
        return b""

    def waits(self) -> bool:
        """Whether the client wants to be told to go on. True at most once for a message."""
        expects, self._expects = self._expects, False
        return expects and self.in_body and not self.length and self.fault is None

    def refuse(self, refusal: Refusal) -> None:
        if self.fault is None:
            self.fault = refusal
            self._body = b""
            self._between = False

    def hold(self, size: int) -> bool:
        """Count bytes that are kept for this client. False: there is no room for them."""
        if self._bodies.held + size > self._bodies.most:
            return False
        self._held += size
        self._bodies.held += size
        return True

    def release(self, size: int) -> None:
        """Forget that `size` bytes were kept."""
        size = min(size, self._held)  # nothing is held any more for a client that has left
        self._held -= size
        self._bodies.held -= size

    def close(self) -> None:
        """Keep nothing any more, and read nothing."""
        self._parser = None  # it keeps us as we keep it
        self.ready.clear()
        self.release(self._held)

    def _recognize(self, data: bytes) -> bool:
        """Read a whole request without the parser, or learn its head. False: it is not read yet."""
        piece = cut(data)
        if piece is None:
            return False
        message = self._familiar.find(piece)
        if message is None:
            self._parse(data)
            if self._between and len(self.ready) == 1:
                self._familiar.learn(piece, self.ready[0])
            return True
        size = len(message.body)
        if size > self._limits.body_bytes or not self.hold(size):
            return False
        self.begun += 1
        self.ready.append(message)
        return True

    def _parse(self, data: bytes) -> None:
        begun, length = self.begun, self.length
        self._slice = len(data)
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.refuse(heads.UPGRADE)
        except httptools.HttpParserError:
            self.refuse(heads.MALFORMED)
        if self.reading and begun == self.begun:
            # Bounds what the parser holds or skips: half a header line, extensions of chunks.
            self._size += len(data) - (self.length - length)
            if self._size > self._limits.head_bytes + 8 * self.length:
                self.refuse(heads.MALFORMED if self.in_body else heads.LONG_HEAD)

    # The parser

    def on_message_begin(self) -> None:
        self.begun += 1
        self.reading, self.in_body, self._expects = True, False, False
        self._between = False
        self._url, self._headers, self._repeats = b"", {}, 0
        self._body, self.length, self._size = b"", 0, 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = heads.NAMES.get(name) or heads.learn(name)
        headers = self._headers
        if name not in headers:
            headers[name] = value
        elif self._repeats < self._limits.headers:
            self._repeats += 1
            headers[name] = b"%s, %s" % (headers[name], value)

    def on_headers_complete(self) -> None:
        headers, limits, version = self._headers, self._limits, self._parser.get_http_version()
        self._headers = {}  # for trailers: nothing can be said after the head
        headers.pop(heads.OURS, None)
        self.in_body, self._modern = True, version == "1.1"
        self._expects = self._modern and b"expect" in headers
        if len(headers) + self._repeats > limits.headers or self._is_long(headers):
            self.refuse(heads.LONG_HEAD)
        elif self._parser.should_upgrade():
            self.refuse(heads.UPGRADE)
        elif fault := heads.head_fault(version, self._url, headers, limits):
            self.refuse(fault)
        else:
            path = self._url.partition(b"?")[0].decode("ascii", "replace")
            length = headers.pop(LENGTH, None)
            self.head = Head(self._parser.get_method().decode(), path, headers, length)

    def on_body(self, data: bytes) -> None:
        if self.fault is not None:
            return
        size = len(data)
        if self.length + size > self._limits.body_bytes:
            self.refuse(heads.long_body(self._limits))
        elif not self.hold(size):
            self.refuse(heads.FULL)
        else:
            # One piece is kept as it is. More are copied together: a list of tiny pieces would
            # take many times the memory that is counted.
            if not self.length:
                self._body = data
            else:
                if isinstance(self._body, bytes):
                    self._body = bytearray(self._body)
                self._body += data
            self.length += size

    def on_message_complete(self) -> None:
        self.reading = False
        if self.fault is None:
            keep = self._between = self._parser.should_keep_alive()
            body = bytes(self._body)
            self.ready.append(Message(self.head, body, keep=keep, chunked=self._modern))
            self._body = b""

    def _is_long(self, headers: dict[bytes, bytes]) -> bool:
        if self._size + self._slice + SLICE <= self._limits.head_bytes:
            return False  # so small is all that was read, the first slice included
        size = sum(len(name) + len(value) for name, value in headers.items())
        return size + len(self._url) > self._limits.head_bytes
