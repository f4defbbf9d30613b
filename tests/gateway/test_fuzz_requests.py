"""Whatever clients send: an answer that everybody can read, or a clean end, and nothing kept."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import h11
import pytest
import uvloop
from hypothesis import given, strategies as st

from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.edge.limits import Limits
from headgate_gateway.refusals import Refusal

from .edges import Client, echo, make_edge
from .fuzzing import TRIES, hold, in_pieces, mutated, seeds

WORDS: Final = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b",", b"0", b"5",
    b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.0", b"HTTP/1.1", b"http://x/",
    b"content-length: 5\r\n", b"Content-Length: 0\r\n", b"transfer-encoding: chunked\r\n",
    b"5\r\nhello\r\n", b"5;a=b\r\nhello\r\n",
    b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"fffffffffffffffff",
    b"host: y\r\n", b"connection: close\r\n", b"connection: keep-alive\r\n", b"upgrade: h2c\r\n",
    b"expect: 100-continue\r\n", b"x-headgate-tenant: a\r\n", b"HEAD", b"POST", b"CONNECT",
)  # fmt: skip
SPACES: Final = re.compile(rb"\A([A-Z-]+) +(\S+) +")


@dataclass(slots=True)
class Said:
    """What became of a client's bytes."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    written: bytes = b""
    ended: str = ""

    async def handle(self, exchange: Exchange) -> None:
        self.requests.append((exchange.head.method, exchange.head.path, exchange.body))
        await echo(exchange)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


async def converse(pieces: list[bytes], limits: Limits | None = None) -> Said:
    said = Said()
    edge = make_edge(said.handle, limits, said.refused.append)
    client = Client(edge)
    await client.send(*pieces)
    said.written, said.ended = client.wire.data, client.wire.ended
    client.leave()
    await client.settle()
    assert (0, 0) == (edge.bodies.held, edge.connections)
    return said


def answers(said: Said) -> list[tuple[int, bytes]]:
    """Read what was written as an independent client does; it raises where that is not HTTP."""
    found: list[tuple[int, bytes]] = []
    methods = [method for method, _, _ in said.requests]
    reader = h11.Connection(h11.CLIENT)
    reader.receive_data(said.written)
    for method in [*methods, *["GET"] * len(said.refused)]:
        # A refusal may come before the request is whole, and h11 wants whole ones.
        reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        reader.send(h11.EndOfMessage())
        status, body = 0, b""
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                assert isinstance(event, h11.InformationalResponse), event
                assert 100 == event.status_code
        found.append((status, body))
        if reader.our_state is not h11.DONE:
            break
        reader.start_next_cycle()
    # A go-ahead may stand there for a request that never became whole.
    assert reader.trailing_data[0] in (b"", b"HTTP/1.1 100 Continue\r\n\r\n")
    return found


def requests_by_h11(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Read the same bytes with the other parser, as far as it gets.

    Ours alone forgives what means nothing: empty lines before a request, more spaces in its line.
    """
    while data := data.lstrip(b"\r\n"):
        data = SPACES.sub(rb"\1 \2 ", data)
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        reader.receive_data(data)
        head, body = None, b""
        try:
            while not isinstance(event := reader.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    return
        except h11.RemoteProtocolError:
            return
        assert head is not None
        yield head.method.decode(), head.target.decode().partition("?")[0], body
        data = reader.trailing_data[0]


EVERYTHING: Final = in_pieces(mutated(seeds("requests"), WORDS))


def test_every_client_gets_answers_that_can_be_read_or_a_clean_end(runner: asyncio.Runner) -> None:
    @TRIES
    @given(pieces=EVERYTHING)
    def holds(pieces: list[bytes]) -> None:
        said = runner.run(converse(pieces))
        expected = [(200, b"%s %s" % (path.encode(), body)) for _, path, body in said.requests]
        expected += [(refusal.status, b"") for refusal in said.refused]
        got = answers(said)

        assert [status for status, _ in expected] == [status for status, _ in got]
        for (method, _, _), (_, body), (_, read) in zip(said.requests, expected, got, strict=False):
            assert (b"" if method == "HEAD" else body) == read
        if said.refused:
            assert "eof" == said.ended
            assert b'"error"' in got[-1][1]

    hold(holds)


def test_what_we_read_as_requests_another_parser_reads_as_the_same_requests(
    runner: asyncio.Runner,
) -> None:
    @TRIES
    @given(pieces=EVERYTHING)
    def holds(pieces: list[bytes]) -> None:
        said = runner.run(converse(pieces))
        others = list(requests_by_h11(b"".join(pieces)))

        assert said.requests == others[: len(said.requests)]

    hold(holds)


def test_how_the_network_cuts_the_bytes_changes_nothing(runner: asyncio.Runner) -> None:
    @TRIES
    @given(pieces=EVERYTHING)
    def holds(pieces: list[bytes]) -> None:
        cut = runner.run(converse(pieces))
        whole = runner.run(converse([b"".join(pieces)]))

        assert (whole.requests, whole.refused) == (cut.requests, cut.refused)
        assert whole.ended == cut.ended

    hold(holds)


def test_whatever_is_repeated_for_ever_ends_or_makes_requests(runner: asyncio.Runner) -> None:
    limits = Limits(head_bytes=1000, url_bytes=500, body_bytes=1000)

    @TRIES
    @given(
        start=mutated(seeds("requests"), WORDS),
        again=st.sampled_from(WORDS) | st.binary(min_size=1),
    )
    def holds(start: bytes, again: bytes) -> None:
        said = runner.run(converse([start, *[(4096 // len(again) + 1) * again] * 16], limits))

        # Empty lines before a request are skipped and kept nowhere; the clock goes on.
        assert said.ended or said.requests or not again.strip(b"\r\n")

    hold(holds)
