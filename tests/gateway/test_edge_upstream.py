"""Connections to model servers: what may be reused, what is given up, and when."""

from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from headgate_gateway.calls.upstream import HIGH, LONGEST_HEAD, Lost, Upstream
from headgate_gateway.routing import resting
from headgate_gateway.routing.pods import Pod, Pool

from .conftest import until

OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"content-length: 2\r\n\r\nhi"
CHUNKED = b"transfer-encoding: chunked\r\n"


class Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.sent = b""
        self.aborted = self.closed = self.paused = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.aborted or self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def connected() -> tuple[Upstream, Wire]:
    upstream, wire = Upstream(), Wire()
    upstream.connection_made(wire)  # type: ignore[arg-type]
    return upstream, wire


def asked() -> tuple[Upstream, Wire]:
    upstream, wire = connected()
    upstream.send(b"request", Mock())
    return upstream, wire


def rest(upstream: Upstream) -> Iterator[bytes]:
    """Give all pieces of the answer's body up to its end, or raise `Lost`."""
    while data := upstream.take():
        yield data


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        pytest.param([HI], b"hi", id="length"),
        pytest.param([HI[i : i + 1] for i in range(len(HI))], b"hi", id="byte by byte"),
        pytest.param([OK + CHUNKED + b"\r\n2\r\nhi\r\n0\r\n\r\n"], b"hi", id="chunks"),
        pytest.param(
            [OK + CHUNKED + b"\r\n2;a=b\r\nhi\r\n0\r\nx: y\r\n\r\n"], b"hi", id="trailers"
        ),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n" + HI], b"hi", id="interim"),
        pytest.param([b"HTTP/1.1 103 Hints\r\nx: y\r\n\r\n", HI], b"hi", id="interim apart"),
        pytest.param([b"HTTP/1.1 204 No Content\r\n\r\n"], b"", id="no content"),
        pytest.param(
            [b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi"],
            b"hi",
            id="HTTP/1.0 that stays",
        ),
    ],
)
def test_a_whole_answer_leaves_the_connection_usable(pieces: list[bytes], body: bytes) -> None:
    upstream, _ = asked()
    assert upstream.silent
    for piece in pieces:
        upstream.data_received(piece)

    assert body == b"".join(rest(upstream))
    assert b"" == upstream.take()
    assert upstream.usable
    assert upstream.used


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", id="close"),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", id="HTTP/1.0"),
        pytest.param(HI + b"more", id="longer than said"),
        pytest.param(HI + HI, id="two answers"),
        pytest.param(HI + b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno", id="two in one"),
    ],
)
def test_after_an_odd_end_the_answer_counts_and_the_connection_does_not(answer: bytes) -> None:
    upstream, wire = asked()
    upstream.data_received(answer)

    assert (200, [b"hi"]) == (upstream.status, list(rest(upstream)))
    assert not upstream.usable
    assert wire.is_closing()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + CHUNKED + b"content-length: 2\r\n\r\nhi", id="chunks and length"),
        pytest.param(OK + b"content-length: 2\r\n" + CHUNKED + b"\r\nhi", id="length and chunks"),
        pytest.param(OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi", id="two lengths"),
        pytest.param(OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n", id="gzip"),
        pytest.param(OK + b"transfer-encoding: gzip\r\n" + CHUNKED + b"\r\n", id="two codings"),
        pytest.param(OK + b"transfer-encoding: gzip\r\n\r\nhi", id="gzip without chunks"),
        pytest.param(OK + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\nhi", id="folded line"),
        pytest.param(HI.replace(b"\r\n", b"\n"), id="bare line feeds"),
        pytest.param(b"HTTP/1.1 101 Switch\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", id="101"),
        pytest.param(b"<html>", id="not HTTP"),
        pytest.param(OK + b"x: " + LONGEST_HEAD * b"a", id="endless header"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, id="endless interims"),
    ],
)
def test_an_answer_that_could_be_read_in_two_ways_is_none(answer: bytes) -> None:
    upstream, wire = asked()
    for start in range(0, len(answer), 1000):
        upstream.data_received(answer[start : start + 1000])

    with pytest.raises(Lost) as lost:
        list(rest(upstream))
    assert not lost.value.early
    assert wire.aborted


@pytest.mark.parametrize(
    ("answer", "early"),
    [
        (b"", True),
        (b"HTTP/1.1 2", False),
        (HI[:-1], False),
        (OK + CHUNKED + b"\r\n2\r\nhi\r\n", False),
        (OK + b"\r\nhi", False),  # nothing says where it ends: it may have been cut
    ],
)
def test_an_answer_that_is_cut_is_lost(answer: bytes, early: bool) -> None:
    upstream, _ = asked()
    if answer:
        upstream.data_received(answer)
    upstream.connection_lost(None)

    with pytest.raises(Lost) as lost:
        list(rest(upstream))
    assert early == lost.value.early


def test_an_error_may_end_with_its_connection() -> None:
    upstream, _ = asked()
    upstream.data_received(b"HTTP/1.0 503 No\r\nRetry-After: 7\r\n\r\nlater")
    upstream.connection_lost(None)

    assert (503, 7.0, [b"later"]) == (upstream.status, upstream.retry_after, list(rest(upstream)))
    assert not upstream.usable


def test_bytes_that_nobody_asked_for_cost_the_connection() -> None:
    upstream, wire = asked()
    upstream.data_received(HI)
    upstream.data_received(HI)  # before the first one was taken
    assert [b"hi"] == list(rest(upstream))
    assert wire.aborted

    upstream, wire = connected()
    upstream.data_received(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert wire.aborted
    assert not upstream.usable


def test_what_nobody_takes_stops_the_reading() -> None:
    upstream, wire = asked()
    upstream.data_received(OK + CHUNKED + b"\r\n")
    piece = b"1000\r\n" + 4096 * b"a" + b"\r\n"
    size = 0
    while not wire.paused:
        upstream.data_received(piece)
        size += 4096

    assert size <= HIGH + 4096
    assert size == len(upstream.take() or b"")
    assert not wire.paused


def a_pod() -> Pod:
    pool = Pool("chat", "uid")
    return Pod(name="pod", uid="uid", host="127.0.0.1", port=1, cohort="c", pool=pool)


def rested(pod: Pod) -> Wire:
    """Give a connection back after an answer."""
    upstream, wire = asked()
    upstream.data_received(HI)
    list(rest(upstream))
    pod.give_back(upstream)
    return wire


async def test_the_connection_that_was_used_last_is_taken_first() -> None:
    pod = a_pod()
    rested(pod)
    last = rested(pod)
    taken = pod.take()

    assert taken is not None
    taken.send(b"next", Mock())
    assert last.sent.endswith(b"next")
    pod.retire()


async def test_a_connection_that_rests_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "LONGEST", 0.02)
    pod = a_pod()
    first, second = rested(pod), rested(pod)
    pod._resting._connections[1].rests_since += 0.5
    await until(lambda: first.aborted)
    assert not second.aborted
    await until(lambda: second.aborted)

    assert pod.take() is None
    await until(lambda: pod._resting._timer is None)


async def test_no_more_connections_rest_than_a_rush_leaves_behind() -> None:
    pod = a_pod()
    wires = [rested(pod) for _ in range(resting.MOST + 10)]

    assert 10 == sum(wire.aborted for wire in wires)
    pod.retire()


async def test_a_draining_pod_loses_idle_connections_now_and_busy_ones_after_their_answer() -> None:
    pod = a_pod()
    idle = rested(pod)
    busy, wire = asked()
    pod.retire()
    assert (True, False) == (idle.aborted, wire.aborted)
    busy.data_received(HI)
    assert [b"hi"] == list(rest(busy))
    assert not wire.aborted
    pod.give_back(busy)

    assert wire.aborted
    assert pod.take() is None


async def test_a_connection_lost_while_it_rests_is_not_taken() -> None:
    pod = a_pod()
    rested(pod)
    connection = pod._resting._connections[0]
    connection.connection_lost(None)

    assert 0 == len(pod._resting)
    assert pod.take() is None
    pod.retire()
