"""Heads of requests that were read before: nearly all clients say the same again and again.

A request that comes in one piece, and whose head is known but for the digits of its length, needs
no parser: what the parser made of the same bytes before holds for them now. So nothing gets in here
that it would refuse.

Remembered heads hold clients' keys, as do those of all requests in work. They are few, and are
forgotten together.
"""

from typing import Final, TypeAlias, final

from headgate_gateway.edge.exchange import Head

MOST: Final = 512
"""Heads to remember."""
LONGEST: Final = 2048
"""Bytes of one."""
PASSING: Final = frozenset({b"expect", b"idempotency-key", b"traceparent", b"transfer-encoding"})
"""A head that has one of these will not come again, or says something about its body."""
Piece: TypeAlias = tuple[bytes, bytes, bytes]
"""A request: what its head says around the digits of its length, those digits, and its body."""
_DIGITS: Final = 9
_BEFORE: Final = b"ength: "
_LENGTH_LINE: Final = b"\r\ncontent-length: "


@final
class Message:
    """A whole request."""

    __slots__ = ("body", "chunked", "head", "keep")

    def __init__(self, head: Head, body: bytes, *, keep: bool, chunked: bool) -> None:
        self.head = head
        self.body = body
        self.keep = keep  # the client wants to go on after the answer
        self.chunked = chunked  # the client understands chunks


@final
class Familiar:
    """The heads that are known; shared by all connections."""

    def __init__(self) -> None:
        self._known: dict[bytes, Message] = {}

    def find(self, piece: Piece) -> Message | None:
        """Make a request of a piece. None: its head is not known."""
        same, digits, body = piece
        known = self._known.get(same)
        if known is None:
            return None
        head = known.head
        again = Head(head.method, head.path, head.headers, digits)
        return Message(again, body, keep=known.keep, chunked=known.chunked)

    def learn(self, piece: Piece, read: Message) -> None:
        """Remember a piece's head, if it is one to be remembered. `read`: by the parser."""
        same, digits, body = piece
        head, begin = read.head, same.find(_BEFORE) + len(_BEFORE)
        if (
            read.keep
            and read.body == body
            and head.length == digits
            and same[:begin].lower().endswith(_LENGTH_LINE)
            and PASSING.isdisjoint(head.headers)
        ):
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[same] = Message(head, b"", keep=True, chunked=read.chunked)


def cut(data: bytes) -> Piece | None:
    r"""Cut a request that has come in one piece. None: it has not, or is not as most are.

    >>> cut(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nHost: a\r\n\r\n{}")
    (b'POST / HTTP/1.1\r\nContent-Length: \r\nHost: a', b'2', b'{}')
    """
    end = data.find(b"\r\n\r\n", 0, LONGEST)
    before = data.find(_BEFORE, 0, end)
    if end < 0 or before < 0:
        return None
    begin = before + len(_BEFORE)
    stop = data.find(b"\r\n", begin)
    digits = data[begin:stop]
    if len(digits) > _DIGITS or not digits.isdigit() or len(data) - end - 4 != int(digits):
        return None
    return data[:begin] + data[stop:end], digits, data[end + 4 :]
