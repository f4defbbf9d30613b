"""Bytes of HTTP/1.1 answers. What never changes is built once, when the module is read."""

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, final

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}
CONTINUE: Final = STATUS_LINES[100] + b"\r\n"
CLOSE: Final = b"connection: close\r\n"
KEEP: Final = b"connection: keep-alive\r\n"  # HTTP/1.0 closes unless told
LENGTH: Final = b"content-length: %d\r\n"
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

SIZES: Final[tuple[bytes, ...]] = tuple(b"%x\r\n" % size for size in range(512))
"""What chunks begin with; of longer ones it is made for each."""


@final
class Date:
    """The `date` header, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = b"date: %s\r\n" % formatdate(second, usegmt=True).encode()
        return self._line


def head(status: int, headers: bytes, *framing: bytes) -> bytes:
    """Join status line, header and framing lines into the head of an answer."""
    return b"".join((STATUS_LINES[status], headers, *framing, b"\r\n"))


def chunk(data: bytes) -> bytes:
    return b"%s%s\r\n" % (chunk_size(data), data)


def chunk_size(data: bytes) -> bytes:
    """Return what a chunk of `data` begins with."""
    size = len(data)
    return SIZES[size] if size < len(SIZES) else b"%x\r\n" % size
