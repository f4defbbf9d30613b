"""Requests whose head is known are read without the parser, and just as it would read them."""

import pytest
from hypothesis import example, given, strategies as st

from headgate_gateway.edge.familiar import MOST, Familiar, cut
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.messages import Bodies, Reader

LINES = (
    *(b"Host: there", b"Host: there, here", b"Authorization: Bearer one", b"Connection: close"),
    *(b"Content-Length: 2", b"content-length: 02", b"CONTENT-LENGTH: 2", b"X-Length: 2"),
    *(b"Content-Length: +2", b"Content-Length:  2", b"Content-Length: 2 ", b"Content-Length:2"),
    *(b"Content-Length: 2, 2", b"Content-Length: 0", b"Content-Length: 3", b"X-Content-Length: 2"),
    *(b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Upgrade: websocket"),
    *(b"Connection: upgrade", b"traceparent: 00-1", b" folded", b"odd", b"odd : 1", b"\xff: 1"),
)
STARTS = (b"POST / HTTP/1.1", b"POST / HTTP/1.0", b"GET /a?b HTTP/1.1", b"\r\nPUT / HTTP/1.1")
LIMITS = Limits(body_bytes=3, headers=5)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.sampled_from(LINES), max_size=4))
    if draw(st.booleans()):
        lines = [b"Host: there", *lines, b"Content-Length: 2"]
    body = draw(st.sampled_from((b"{}", b"", b"{", b"123", b"{}\r\n", b"{}POST / HTTP/1.1\r\n")))
    whole = b"\r\n".join((draw(st.sampled_from(STARTS)), *lines, b"", body))
    place = draw(st.none() | st.integers(0, len(whole)))
    if place is None:
        return whole
    return whole[:place] + draw(st.binary(max_size=2)) + whole[place + draw(st.integers(0, 2)) :]


def reader(familiar: Familiar) -> Reader:
    return Reader(LIMITS, Bodies(8), familiar)


def state(read: Reader) -> tuple[object, ...]:
    ready = [
        (head.method, head.path, head.headers, head.length, one.body, one.keep, one.chunked)
        for one in read.ready
        for head in (one.head,)
    ]
    return (ready, read.fault, read.begun, read.reading, read.waits())


@given(
    taught=st.lists(requests(), max_size=6),
    pieces=st.lists(
        requests().flatmap(lambda one: st.sampled_from((one, one[:9], one[9:], 2 * one)))
    ),
)
@example(taught=[], pieces=[b"POST / HTTP/1.1\r\nHost: there\r\nContent-Length: 2\r\n\r\n{}"] * 5)
def test_a_known_head_makes_no_difference(taught: list[bytes], pieces: list[bytes]) -> None:
    known = Familiar()
    for one in taught:
        reader(known).feed(one)
    nothing = Familiar()
    quick, slow = reader(known), reader(nothing)
    for piece in pieces:
        nothing._known.clear()
        assert slow.feed(piece) == quick.feed(piece)
        assert state(slow) == state(quick)


def request(*lines: bytes, body: bytes = b"{}") -> bytes:
    return b"\r\n".join((b"POST / HTTP/1.1", b"Host: there", *lines, b"", body))


def is_known(familiar: Familiar, data: bytes) -> bool:
    piece = cut(data)
    return piece is not None and familiar.find(piece) is not None


@pytest.mark.parametrize(
    ("line", "known"),
    [
        (b"Accept: */*", True),
        (b"Connection: close", False),
        (b"Expect: 100-continue", False),
        (b"Idempotency-Key: one", False),
        (b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        (b"X-Length: 2", False),
    ],
)
def test_a_head_is_remembered_if_it_may_come_again(line: bytes, *, known: bool) -> None:
    familiar = Familiar()
    reader(familiar).feed(request(line, b"Content-Length: 2"))
    assert known == is_known(familiar, request(line, b"Content-Length: 2"))


def test_a_known_head_may_come_with_a_body_of_another_length() -> None:
    familiar = Familiar()
    reader(familiar).feed(request(b"Content-Length: 2"))
    other = reader(familiar)
    other.feed(request(b"Content-Length: 3", body=b"[1]"))
    headers = {b"host": b"there"}
    assert [("POST", "/", headers, b"3", b"[1]", True, True)] == state(other)[0]


def test_few_heads_are_remembered() -> None:
    familiar = Familiar()
    for number in range(MOST + 1):
        reader(familiar).feed(request(b"X-Number: %d" % number, b"Content-Length: 2"))
    known = [
        is_known(familiar, request(b"X-Number: %d" % number, b"Content-Length: 2"))
        for number in (0, MOST - 1, MOST)
    ]
    assert [False, False, True] == known
