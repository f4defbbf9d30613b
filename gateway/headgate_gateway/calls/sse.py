"""Server-sent events: from pieces of bytes, cut anywhere, to the data of whole events."""

from typing import Final

LONGEST: Final = 1024 * 1024
"""Bytes of one event. A model server that sends more is broken."""


class Malformed(ValueError):
    """The bytes are no event stream that we could follow."""


class Decoder:
    r"""Feed it pieces; it returns the data of the events that became whole.

    Bytes are decoded by whoever reads the data, so a character may be cut in two anywhere.

    >>> decoder = Decoder()
    >>> decoder.feed(b'data: {"a"')
    []
    >>> decoder.feed(b':1}\n\ndata: [DO')
    [b'{"a":1}']
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Take a piece. `Malformed`: an event grows beyond all measure."""
        # Not `in`: of bytes it makes, and drops, an exception first.
        plain = piece.find(b"\r") < 0
        if plain and not (self._rest or self._data) and len(piece) <= LONGEST:
            events = _usual(piece)
            if events:
                return events
        found: list[bytes] = []
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            line = line.removesuffix(b"\r")  # noqa: PLW2901 - both line ends are allowed
            if line.startswith(b"data:"):
                data = line[5:].removeprefix(b" ")
                self._size += len(data)
                self._data.append(data)
            elif not line and self._data:
                found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data, self._size = [], 0
        if self._size + len(self._rest) > LONGEST:
            raise Malformed("an event is too long")
        return found

    @property
    def whole(self) -> bool:
        """Whether everything that was fed has been returned: a stream must not end inside one."""
        return not self._rest.strip() and not self._data


def _usual(piece: bytes) -> list[bytes]:
    """Read what is nothing but whole events of one line each, as nearly every piece is.

    Line by line: `find` is many times faster than `split` and `count`, which look at each byte.
    """
    events: list[bytes] = []
    begin = 0
    while piece.startswith(b"data: ", begin):
        end = piece.find(b"\n", begin)
        if not piece.startswith(b"\n\n", end):
            return []
        events.append(piece[begin + 6 : end])
        begin = end + 2
    return events if begin == len(piece) else []
