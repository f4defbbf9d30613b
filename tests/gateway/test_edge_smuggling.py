"""Messages that two readers could read differently, each with its exact answer.

A proxy in front of the gateway and the gateway must agree where a request ends. Where they could
not, the connection ends: what follows must never be read as a request.
"""

from dataclasses import dataclass, field

import pytest

from headgate_gateway.edge import heads
from headgate_gateway.edge.errors import error_body
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.edge.limits import Limits
from headgate_gateway.refusals import Refusal

from .edges import Client, echo, make_edge

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
HOST = b"host: x\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = b"transfer-encoding: chunked\r\n"
EMPTY = b"\r\n0\r\n\r\n"
GET = b"GET / HTTP/1.1\r\n"


@dataclass(slots=True)
class Seen:
    """What the edge took for requests."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    async def handle(self, exchange: Exchange) -> None:
        self.requests.append((exchange.head.method, exchange.head.path, exchange.body))
        await echo(exchange)


def pieces_of(data: bytes) -> dict[str, list[bytes]]:
    """Cut a message as a network may: not at all, everywhere, and in two."""
    half = len(data) // 2
    return {
        "whole": [data],
        "byte by byte": [data[i : i + 1] for i in range(len(data))],
        "halves": [data[:half], data[half:]],
    }


REFUSED = {
    # Two lengths
    "CL.TE": (POST + b"content-length: 5\r\n" + CHUNKED + EMPTY, heads.MALFORMED),
    "TE.CL": (POST + CHUNKED + b"content-length: 5\r\n" + EMPTY, heads.MALFORMED),
    "two equal lengths": (
        POST + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        heads.MALFORMED,
    ),
    "two different lengths": (
        POST + b"content-length: 0\r\ncontent-length: 5\r\n\r\nhello",
        heads.MALFORMED,
    ),
    "list of equal lengths": (POST + b"content-length: 5, 5\r\n\r\nhello", heads.MALFORMED),
    # Odd lengths
    "signed length": (POST + b"content-length: +5\r\n\r\nhello", heads.MALFORMED),
    "negative length": (POST + b"content-length: -5\r\n\r\nhello", heads.MALFORMED),
    "hexadecimal length": (POST + b"content-length: 0x5\r\n\r\nhello", heads.MALFORMED),
    "length with an underscore": (POST + b"content-length: 1_0\r\n\r\nhello", heads.MALFORMED),
    "length with a space": (POST + b"content-length: 5 0\r\n\r\nhello", heads.MALFORMED),
    "empty length": (POST + b"content-length:\r\n\r\nhello", heads.MALFORMED),
    "length beyond 64 bits": (
        POST + b"content-length: 18446744073709551621\r\n\r\nhello",
        heads.MALFORMED,
    ),
    "length in other digits": (POST + b"content-length: \xd9\xa5\r\n\r\nhello", heads.MALFORMED),
    # Odd codings
    "two codings": (POST + CHUNKED + b"transfer-encoding: x\r\n" + EMPTY, heads.MALFORMED),
    "chunked twice": (POST + CHUNKED + CHUNKED + EMPTY, heads.MALFORMED),
    "chunked is not last": (
        POST + b"transfer-encoding: chunked, identity\r\n" + EMPTY,
        heads.MALFORMED,
    ),
    "gzip": (POST + b"transfer-encoding: gzip, chunked\r\n" + EMPTY, heads.CODING),
    "xchunked": (POST + b"transfer-encoding: xchunked\r\n" + EMPTY, heads.CODING),
    "identity": (POST + b"transfer-encoding: identity\r\n" + EMPTY, heads.CODING),
    "chunked in quotes": (POST + b'transfer-encoding: "chunked"\r\n' + EMPTY, heads.CODING),
    "empty coding": (POST + b"transfer-encoding:\r\n" + EMPTY, heads.MALFORMED),
    "coding behind a tab": (POST + b"transfer-encoding:\x0bchunked\r\n" + EMPTY, heads.MALFORMED),
    "coding in HTTP/1.0": (
        POST.replace(b"1.1", b"1.0") + CHUNKED + EMPTY,
        heads.MALFORMED,
    ),
    # Odd names
    "space before colon": (POST + b"content-length : 5\r\n\r\nhello", heads.MALFORMED),
    "tab before colon": (POST + b"transfer-encoding\t: chunked\r\n" + EMPTY, heads.MALFORMED),
    "space before the first name": (GET + b" host: x\r\n\r\n", heads.MALFORMED),
    "no name": (POST + b": x\r\n\r\n", heads.MALFORMED),
    "no colon": (POST + b"x\r\n\r\n", heads.MALFORMED),
    "name in brackets": (POST + b"x(y): z\r\n\r\n", heads.MALFORMED),
    "name with an at": (POST + b"content-length@: 5\r\n\r\nhello", heads.MALFORMED),
    "name with a NUL": (POST + b"content\x00length: 5\r\n\r\nhello", heads.MALFORMED),
    "name beyond ASCII": (POST + b"content-length\xa0: 5\r\n\r\nhello", heads.MALFORMED),
    # Odd lines
    "folded line": (POST + b"x: a\r\n content-length: 5\r\n\r\nhello", heads.MALFORMED),
    "line folded by a tab": (POST + b"x: a\r\n\tb\r\n\r\n", heads.MALFORMED),
    "bare line feeds": (POST.replace(b"\r\n", b"\n") + b"\n", heads.MALFORMED),
    "one bare line feed": (POST + b"x: a\ncontent-length: 5\r\n\r\nhello", heads.MALFORMED),
    "bare line feed at the end": (POST + b"x: a\r\n\n", heads.MALFORMED),
    "bare carriage return": (POST + b"x: a\rcontent-length: 5\r\n\r\nhello", heads.MALFORMED),
    "two carriage returns": (POST + b"x: a\r\r\n\r\n", heads.MALFORMED),
    "NUL in a value": (POST + b"x: a\x00b\r\n\r\n", heads.MALFORMED),
    "control character in a value": (POST + b"x: a\x01b\r\n\r\n", heads.MALFORMED),
    "delete in a value": (POST + b"x: a\x7fb\r\n\r\n", heads.MALFORMED),
    # Odd chunks
    "chunk size is no number": (POST + CHUNKED + b"\r\nzz\r\nhello", heads.MALFORMED),
    "chunk size with 0x": (POST + CHUNKED + b"\r\n0x5\r\nhello" + EMPTY, heads.MALFORMED),
    "signed chunk size": (POST + CHUNKED + b"\r\n-5\r\nhello" + EMPTY, heads.MALFORMED),
    "space behind a chunk size": (POST + CHUNKED + b"\r\n5 \r\nhello" + EMPTY, heads.MALFORMED),
    "empty chunk size": (POST + CHUNKED + b"\r\n\r\nhello" + EMPTY, heads.MALFORMED),
    "chunk size beyond 64 bits": (
        POST + CHUNKED + b"\r\n10000000000000005\r\nhello" + EMPTY,
        heads.MALFORMED,
    ),
    "chunk is longer than said": (POST + CHUNKED + b"\r\n3\r\nhello" + EMPTY, heads.MALFORMED),
    "chunk is shorter than said": (POST + CHUNKED + b"\r\n6\r\nhello\r\n0\r\n", heads.MALFORMED),
    "bare line feeds in chunks": (POST + CHUNKED + b"\r\n5\nhello\n0\n\n", heads.MALFORMED),
    "bare line feed in an extension": (
        POST + CHUNKED + b"\r\n5;a\nhello\r\n0\r\n\r\n",
        heads.MALFORMED,
    ),
    "carriage return in an extension": (
        POST + CHUNKED + b"\r\n5;\rx\r\nhello" + EMPTY,
        heads.MALFORMED,
    ),
    "line end in a quoted extension": (
        POST + CHUNKED + b'\r\n5;a="\r\n"\r\nhello' + EMPTY,
        heads.MALFORMED,
    ),
    "length in a trailer": (
        POST + CHUNKED + b"\r\n0\r\ncontent-length: 5\r\n\r\n",
        heads.MALFORMED,
    ),
    "coding in a trailer": (POST + CHUNKED + b"\r\n0\r\n" + CHUNKED + b"\r\n", heads.MALFORMED),
    # Odd targets and hosts
    "absolute target": (b"GET http://x/ HTTP/1.1\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "authority as target": (b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\n", heads.UPGRADE),
    "asterisk as target": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "space in the target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "tab before the target": (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "target beyond ASCII": (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "no host": (GET + b"\r\n", heads.HOST),
    "two hosts": (GET + HOST + HOST + b"\r\n", heads.HOST),
    "host with a space": (GET + b"host: x y\r\n\r\n", heads.HOST),
    "host with a path": (GET + b"host: x/y\r\n\r\n", heads.HOST),
    "host with a user": (GET + b"host: x@y\r\n\r\n", heads.HOST),
    # Odd versions and other protocols
    "HTTP/0.9": (b"GET /\r\n\r\n", heads.VERSION),
    "HTTP/1.10": (b"GET / HTTP/1.10\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", heads.VERSION),
    "version in lower case": (b"GET / http/1.1\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "space behind the version": (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", heads.MALFORMED),
    "method in lower case": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "unknown method": (b"SMUGGLE / HTTP/1.1\r\n" + HOST + b"\r\n", heads.MALFORMED),
    "HTTP/2 without a question": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", heads.MALFORMED),
    "h2c": (GET + HOST + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n", heads.UPGRADE),
    "websocket": (GET + HOST + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n", heads.UPGRADE),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01", heads.MALFORMED),
    "an answer": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", heads.MALFORMED),
    # Others
    "unknown expectation": (POST + b"expect: tea\r\n\r\n", heads.EXPECT),
    "two expectations": (
        POST + b"expect: 100-continue\r\nexpect: 100-continue\r\n\r\n",
        heads.EXPECT,
    ),
}


@pytest.mark.parametrize("cut", ["whole", "byte by byte", "halves"])
@pytest.mark.parametrize("case", REFUSED)
async def test_what_two_readers_could_read_differently_ends_the_connection(
    case: str, cut: str
) -> None:
    data, refusal = REFUSED[case]
    seen = Seen()
    client = Client(make_edge(seen.handle, refused=seen.refused.append))
    await client.send(*pieces_of(data)[cut], SMUGGLED, SMUGGLED)

    assert ([], [refusal]) == (seen.requests, seen.refused)
    head, _, body = client.wire.data.partition(b"\r\n\r\n")
    assert error_body(refusal) == body
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert b"HTTP/1.1 %d " % refusal.status == head[:13]
    assert (b"close", b"%d" % len(body)) == (lines[b"connection"], lines[b"content-length"])
    assert "eof" == client.wire.ended


@pytest.mark.parametrize("case", REFUSED)
async def test_a_request_before_it_is_answered_and_nothing_behind_it(case: str) -> None:
    data, refusal = REFUSED[case]
    seen = Seen()
    client = Client(make_edge(seen.handle, refused=seen.refused.append))
    await client.send(b"GET /first HTTP/1.1\r\nhost: x\r\n\r\n" + data + SMUGGLED)
    await client.send(SMUGGLED)

    assert [("GET", "/first", b"")] == seen.requests
    assert [refusal] == seen.refused
    assert 2 == client.wire.data.count(b"HTTP/1.1 ")


HELLO = ("POST", "/", b"hello")
NOTHING = ("POST", "/", b"")
READ = {
    "length": (POST + b"content-length: 5\r\n\r\nhello", [HELLO]),
    "length with zeros": (POST + b"content-length: 0005\r\n\r\nhello", [HELLO]),
    "chunks": (POST + CHUNKED + b"\r\n2\r\nhe\r\n3\r\nllo" + b"\r\n0\r\n\r\n", [HELLO]),
    "coding in capitals": (
        POST + b"Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        [HELLO],
    ),
    "chunk extensions": (
        POST + CHUNKED + b'\r\n5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n',
        [HELLO],
    ),
    "trailers": (
        POST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nauthorization: x\r\nhost: y\r\n\r\n",
        [HELLO],
    ),
    "a request as body": (
        POST + b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        [("POST", "/", SMUGGLED)],
    ),
    "no length is no body": (POST + b"\r\n", [NOTHING]),
    "a body for GET": (GET + HOST + b"content-length: 5\r\n\r\nhello", [("GET", "/", b"hello")]),
    "empty lines before": (b"\r\n\r\n" + POST + b"\r\n", [NOTHING]),
    "two at once": (POST + b"content-length: 5\r\n\r\nhello" + POST + b"\r\n", [HELLO, NOTHING]),
    "HTTP/1.0 that stays": (
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        [("GET", "/", b"")],
    ),
    "the query is cut off": (b"GET /a?b#c HTTP/1.1\r\n" + HOST + b"\r\n", [("GET", "/a", b"")]),
}


@pytest.mark.parametrize("cut", ["whole", "byte by byte", "halves"])
@pytest.mark.parametrize("case", READ)
async def test_what_everybody_reads_alike_is_read_and_the_next_request_too(
    case: str, cut: str
) -> None:
    data, expected = READ[case]
    seen = Seen()
    client = Client(make_edge(seen.handle, refused=seen.refused.append))
    await client.send(*pieces_of(data)[cut], b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n")

    assert [*expected, ("GET", "/next", b"")] == seen.requests
    assert ([], "") == (seen.refused, client.wire.ended)
    client.leave()


async def test_nothing_is_read_behind_the_last_request_that_a_client_announced() -> None:
    seen = Seen()
    client = Client(make_edge(seen.handle))
    await client.send(GET + HOST + b"connection: close\r\n\r\n" + SMUGGLED)
    await client.send(SMUGGLED)

    assert [("GET", "/", b"")] == seen.requests
    assert (1, "close") == (client.wire.data.count(b"HTTP/1.1 "), client.wire.ended)


@pytest.mark.parametrize("name", [b"X-Headgate-Tenant", b"x-gateway-user", b"Forwarded"])
async def test_what_only_the_gateway_may_say_is_dropped(name: bytes) -> None:
    headers: list[dict[bytes, bytes]] = []

    async def handle(exchange: Exchange) -> None:
        headers.append(dict(exchange.head.headers))
        await echo(exchange)

    client = Client(make_edge(handle))
    line = name + b": root\r\n"
    await client.send(GET + HOST + line + b"X-Mine: a\r\n" + line + b"x-mine: b\r\n\r\n")
    await client.send(POST + CHUNKED + b"\r\n0\r\nx-mine: trailer\r\n\r\n")

    assert {b"host": b"x", b"x-mine": b"a, b"} == headers[0]
    assert {b"host": b"x", b"transfer-encoding": b"chunked"} == headers[1]
    client.leave()


async def test_sizes_are_refused_to_the_byte() -> None:
    limits = Limits(body_bytes=10, url_bytes=10, headers=3)

    async def answer(data: bytes) -> bytes:
        client = Client(make_edge(limits=limits))
        await client.send(data)
        client.leave()
        return client.wire.data[9:12]

    assert b"200" == await answer(POST + b"content-length: 10\r\n\r\n0123456789")
    assert b"413" == await answer(POST + b"content-length: 11\r\n\r\n")
    assert b"200" == await answer(POST + CHUNKED + b"\r\na\r\n0123456789\r\n0\r\n\r\n")
    assert b"413" == await answer(POST + CHUNKED + b"\r\nb\r\n0123456789a\r\n0\r\n\r\n")
    assert b"200" == await answer(b"GET /123456789 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"431" == await answer(b"GET /1234567890 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"200" == await answer(GET + HOST + 2 * b"a: b\r\n" + b"\r\n")
    assert b"431" == await answer(GET + HOST + 3 * b"a: b\r\n" + b"\r\n")
    assert b"431" == await answer(GET + HOST + b"a: b\r\nc: d\r\ne: f\r\n\r\n")


@pytest.mark.parametrize("piece", [1_000, 16 * 1024, 64 * 1024])
async def test_the_size_of_a_head_counts_whatever_pieces_it_comes_in(piece: int) -> None:
    async def answer(length: int) -> bytes:
        head = GET + HOST + b"a: " + length * b"b" + b"\r\n\r\n"
        client = Client(make_edge())
        for start in range(0, len(head), piece):
            await client.send(head[start : start + piece])
        client.leave()
        return client.wire.data[9:12]

    assert b"200" == await answer(32_000)
    assert b"431" == await answer(32 * 1024)
    assert b"431" == await answer(40_000)
