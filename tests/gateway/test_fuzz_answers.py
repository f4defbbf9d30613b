"""Whatever model servers send: a whole answer or `Lost`, and nothing kept beyond a bound."""

import re
from typing import Final
from unittest.mock import Mock

import h11
from hypothesis import assume, given, strategies as st

from headgate_gateway.calls.upstream import HIGH, LONGEST_HEAD, Lost, Upstream

from .fuzzing import TRIES, hold, in_pieces, mutated, seeds
from .test_edge_upstream import CHUNKED, OK, Wire, asked

WORDS: Final = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b":", b"0", b"5",
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0", b"204", b"304", b"101",
    b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: x\r\n", b"retry-after: 5\r\n", b"5\r\nhello\r\n",
    b"0\r\n\r\n", b"ffffffffffffffff", b"data: {}\n\n",
)  # fmt: skip
CHUNKS: Final = (
    b"9\r\ndata: 1\n\n\r\n", b"2\r\n\n\n\r\n", b"0a\r\ndata: 12\n\n\r\n", b"A\r\ndata: 12\n\n\r\n",
    b"4\r\nab\n\n", b"3;a=b\r\na\n\n\r\n", b"5\r\nhello\r\n", b"4\r\n", b"\n\n", b"\r\n",
    b"\r", b"9", b"x", b"0\r\n\r\n", b"0\r\na: b\r\n", b"16\r\n" + 22 * b"\n" + b"\r\n", b"",
)  # fmt: skip
# What ours alone forgives, because it means nothing: any reason, and empty lines before an answer.
ODD_REASON: Final = re.compile(rb"HTTP/1\.[01] \d{3}(?!( [\t -~\x80-\xff]*)?\r\n)")
EMPTY_LINES: Final = re.compile(rb"(\A|\r\n\r\n)[\r\n]+(?=HTTP/)")


def read(pieces: list[bytes]) -> tuple[int, bytes] | None:
    """Read an answer up to the end of the connection. None: it was lost."""
    upstream, wire = Upstream(), Wire()
    upstream.connection_made(wire)  # type: ignore[arg-type]
    upstream.send(b"request", Mock())
    body = b""
    for piece in pieces:
        if wire.is_closing():
            break
        upstream.data_received(piece)
        assert upstream._size <= HIGH + len(piece)
    if wire.aborted or not wire.closed:
        upstream.connection_lost(None)
    try:
        while data := upstream.take():
            body += data
    except Lost:
        return None
    assert data == b"", "neither whole nor lost"
    return upstream.status, body


def read_by_h11(data: bytes) -> tuple[int, bytes] | None:
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    reader.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    status, body = 0, b""
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError:
            return None
        match event:
            case h11.Response():
                status = event.status_code
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                return status, body
            case h11.NEED_DATA:
                reader.receive_data(b"")
            case h11.InformationalResponse():
                continue
            case _:
                return None


def test_an_answer_is_whole_or_lost_and_another_parser_reads_the_same() -> None:
    @TRIES
    @given(pieces=in_pieces(mutated(seeds("answers"), WORDS)))
    def holds(pieces: list[bytes]) -> None:
        answer = read(pieces)
        data = EMPTY_LINES.sub(rb"\1", b"".join(pieces))
        assume(not ODD_REASON.search(data))

        assert answer in (None, read_by_h11(data))

    hold(holds)


@given(st.lists(st.lists(st.sampled_from(CHUNKS), max_size=3).map(b"".join), max_size=6))
def test_chunks_that_come_whole_are_read_as_the_parser_reads_them(pieces: list[bytes]) -> None:
    def told(pieces: list[bytes]) -> tuple[bytes, bytes | str | None]:
        upstream, wire = asked()
        for piece in (OK + CHUNKED + b"\r\n", CHUNKS[0], *pieces):
            if not wire.is_closing():
                upstream.data_received(piece)
        body = b""
        try:
            while data := upstream.take():
                body += data
        except Lost as lost:
            return body, str(lost)
        return body, data

    single = [bytes([byte]) for byte in b"".join(pieces)]  # none of them is a chunk

    assert told(single) == told(pieces)


def test_what_never_ends_and_brings_no_body_is_given_up() -> None:
    @TRIES
    @given(start=mutated(seeds("answers"), WORDS), again=st.sampled_from(WORDS))
    def holds(start: bytes, again: bytes) -> None:
        upstream, wire = Upstream(), Wire()
        upstream.connection_made(wire)  # type: ignore[arg-type]
        upstream.send(b"request", Mock())
        for piece in (start, *[(4096 // len(again) + 1) * again] * 80):
            if not wire.is_closing() and not wire.paused:
                upstream.data_received(piece)

        assert wire.is_closing() or wire.paused or upstream._size > len(start) + LONGEST_HEAD

    hold(holds)
