"""One client's connection over time: order, clocks, and how much it may hold. Without sockets."""

import asyncio
from collections.abc import Iterator

import pytest

from headgate_gateway.edge import heads
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.server import Edge

from .conftest import until
from .edges import GET, Client, Wire, echo, make_edge

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"
LIMITS = Limits(
    head_seconds=10, body_seconds=30, body_rate=100, idle_seconds=75, send_seconds=60, send_bytes=10
)


class Clock:
    """What a connection takes for the loop, with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._loop = asyncio.get_running_loop()
        self.create_task = self._loop.create_task
        self.call_soon = self._loop.call_soon

    def time(self) -> float:
        return self.now


class Timed(Client):
    """A client of an edge whose clock the test moves."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge)
        self.clock = Clock()
        self.connection._loop = self.clock  # type: ignore[assignment]

    @property
    def left(self) -> float:
        """Seconds until something happens."""
        return self.connection.until - self.clock.now


def status(client: Client) -> bytes:
    return client.wire.data[9:12]


# Clocks


async def test_a_head_has_one_deadline_however_it_trickles_in() -> None:
    client = Timed(make_edge(limits=LIMITS))
    for byte in GET[:-1]:
        await client.send(bytes([byte]))
        client.clock.now += 0.1
    assert pytest.approx(10 - 0.1 * len(GET[:-1])) == client.left
    client.late()

    assert b"408" == status(client)
    assert "eof" == client.wire.ended


async def test_a_body_gains_only_the_time_that_its_bytes_are_worth() -> None:
    client = Timed(make_edge(limits=LIMITS))
    await client.send(HEAD + b"content-length: 5000\r\n\r\n")
    assert 30 == client.left
    for _ in range(20):
        client.clock.now += 1
        await client.send(b"a")
    assert pytest.approx(30 - 20 + 20 / 100) == client.left
    await client.send(2000 * b"a")
    assert pytest.approx(30 - 20 + 2020 / 100) == client.left
    client.late()

    assert b"408" == status(client)
    assert "eof" == client.wire.ended


async def test_chunks_that_bring_no_body_gain_no_time() -> None:
    client = Timed(make_edge(limits=LIMITS))
    await client.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    client.clock.now += 20
    await client.send(b"5;", b"a=b;", b"c=d")

    assert 10 == client.left


async def test_empty_lines_before_a_request_gain_no_time() -> None:
    client = Timed(make_edge(limits=LIMITS))
    await client.send(GET)
    assert 75 == client.left
    client.clock.now += 70
    await client.send(b"\r\n", b"\r\n")
    assert 5 == client.left
    client.late()

    assert b"200" == status(client)
    assert "close" == client.wire.ended


async def test_while_a_request_is_in_work_only_the_handler_has_a_clock() -> None:
    go_on = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await go_on.wait()
        await echo(exchange)

    client = Timed(make_edge(handle, LIMITS))
    client.connection.data_received(GET)
    client.connection.data_received(GET[:10])
    assert float("inf") == client.connection.until
    go_on.set()
    await client.settle()

    assert 10 == client.left  # of the head that was begun behind it


async def test_a_client_that_only_reads_slowly_gets_its_answer() -> None:
    client = Timed(make_edge(limits=LIMITS))
    client.wire.held = 100
    await client.send(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert "close" == client.wire.ended
    for held in (90, 80):
        assert 60 == client.left
        client.clock.now += 60
        client.wire.held = held
        client.late()
        assert "close" == client.wire.ended
    client.clock.now += 60
    client.wire.held = 71
    client.late()

    assert "abort" == client.wire.ended


async def test_a_stream_to_a_client_that_takes_nothing_is_cut() -> None:
    async def pour(exchange: Exchange) -> None:
        exchange.start(200, b"")
        client.connection.pause_writing()  # as the transport does when it holds enough
        while True:
            await exchange.send(b"a")

    client = Timed(make_edge(pour, LIMITS))
    client.connection.pause_writing()
    client.connection.data_received(GET)  # nothing is begun for a client that does not read
    assert b"" == client.wire.data
    client.connection.resume_writing()
    await until(lambda: client.connection.until < float("inf"))
    client.late()
    client.leave()
    await client.settle()

    assert "abort" == client.wire.ended


async def test_the_edge_looks_at_every_clock_and_stops_when_nobody_is_left() -> None:
    edge = make_edge(limits=Limits(idle_seconds=0.01))
    clients = [Client(edge) for _ in range(3)]
    for client in clients:
        await client.send(GET)
    await until(lambda: all(client.wire.ended for client in clients))
    assert ["close"] * 3 == [client.wire.ended for client in clients]
    for client in clients:
        client.leave()

    assert edge._timer is None


# The go-ahead


EXPECTS = HEAD + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n"
GO_AHEAD = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_the_go_ahead_is_given_once() -> None:
    client = Client(make_edge())
    await client.send(EXPECTS)
    assert GO_AHEAD == client.wire.data
    await client.send(b"he", b"llo")

    assert 1 == client.wire.data.count(GO_AHEAD)
    assert client.wire.data.endswith(b"/ hello")
    client.leave()


async def test_behind_another_request_it_is_given_in_its_turn() -> None:
    client = Client(make_edge())
    await client.send(GET + EXPECTS)
    first, _, last = client.wire.data.partition(GO_AHEAD)
    assert (True, b"") == (first.startswith(b"HTTP/1.1 200"), last)
    await client.send(b"hello")

    assert client.wire.data.endswith(b"/ hello")
    client.leave()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(EXPECTS + b"hello", id="it did not wait"),
        pytest.param(EXPECTS.replace(b"1.1", b"1.0"), id="HTTP/1.0 knows no go-ahead"),
        pytest.param(HEAD + b"expect: 100-continue\r\n\r\n", id="there is no body"),
    ],
)
async def test_nobody_is_told_to_go_on_who_does_not_wait(data: bytes) -> None:
    client = Client(make_edge())
    await client.send(data)

    assert GO_AHEAD not in client.wire.data
    client.leave()


async def test_a_body_that_will_be_refused_is_not_asked_for() -> None:
    client = Client(make_edge(limits=Limits(body_bytes=4)))
    await client.send(EXPECTS)

    assert b"413" == status(client)


# Order and memory


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    found: list[Client] = []
    yield found
    for client in found:
        client.leave()


async def test_answers_come_in_the_order_of_the_requests(clients: list[Client]) -> None:
    turns: list[asyncio.Event] = []

    async def handle(exchange: Exchange) -> None:
        turns.append(asyncio.Event())
        await turns[-1].wait()
        await echo(exchange)

    client = Client(make_edge(handle))
    clients.append(client)
    client.connection.data_received(b"".join(GET.replace(b"/ ", b"/%d " % n) for n in range(5)))
    for number in range(5):
        await until(lambda: len(turns) == number + 1)  # noqa: B023 - called at once
        assert number == client.wire.data.count(b"HTTP/1.1 200")
        turns[number].set()
    await client.settle()

    bodies = [answer.rpartition(b"\r\n\r\n")[2] for answer in client.wire.data.split(b"HTTP/1.1")]
    assert [b"", b"/0 ", b"/1 ", b"/2 ", b"/3 ", b"/4 "] == bodies


async def test_a_body_of_tiny_pieces_takes_what_it_counts(clients: list[Client]) -> None:
    bodies: list[bytes] = []

    async def handle(exchange: Exchange) -> None:
        bodies.append(exchange.body)
        await echo(exchange)

    edge = make_edge(handle)
    client = Client(edge)
    clients.append(client)
    await client.send(HEAD + b"transfer-encoding: chunked\r\n\r\n" + 5000 * b"2\r\nab\r\n")
    assert 10_000 == edge.bodies.held == len(client.connection._reader._body)
    await client.send(b"0\r\n\r\n")

    assert [5000 * b"ab"] == bodies
    assert 0 == edge.bodies.held


async def test_a_client_that_leaves_gives_back_what_it_held() -> None:
    edge = make_edge()
    client = Client(edge)
    await client.send(HEAD + b"content-length: 1000\r\n\r\n" + 900 * b"a")
    assert 900 == edge.bodies.held
    client.leave()

    assert (0, 0) == (edge.bodies.held, edge.connections)


async def test_a_client_that_leaves_cancels_the_request_in_work() -> None:
    ends: list[str] = []

    async def wait(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    client = Client(make_edge(wait))
    client.connection.data_received(GET)
    await asyncio.sleep(0)
    client.leave()
    await client.settle()

    assert ["cancelled"] == ends


async def test_an_answer_that_is_not_finished_is_cut() -> None:
    async def stop_half_way(exchange: Exchange) -> None:
        exchange.start(200, b"", length=10)
        await exchange.send(b"12345")

    client = Client(make_edge(stop_half_way))
    await client.send(GET, GET)

    assert "abort" == client.wire.ended
    assert client.wire.data.endswith(b"\r\n\r\n12345")


async def test_an_answer_leaves_in_one_write(clients: list[Client]) -> None:
    writes: list[bytes] = []

    class Counting(Wire):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            writes.append(bytes(data))

    client = Client(make_edge(), Counting())
    clients.append(client)
    await client.send(GET)

    assert 1 == len(writes)


async def test_no_long_body_is_kept_for_somebody_who_is_not_admitted() -> None:
    edge = make_edge()
    edge.admit = lambda head: None if b"authorization" in head.headers else heads.UPGRADE
    client = Client(edge)
    await client.send(EXPECTS)

    assert b"400" == status(client)
    assert GO_AHEAD not in client.wire.data
    await client.send(5000 * b"a")
    assert 0 == edge.bodies.held
    admitted = Client(edge)
    await admitted.send(EXPECTS.replace(b"host: x", b"host: x\r\nauthorization: y"))
    assert GO_AHEAD == admitted.wire.data
    admitted.leave()


async def test_what_is_sent_ahead_counts_among_what_all_clients_hold(clients: list[Client]) -> None:
    go_on = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await go_on.wait()
        await echo(exchange)

    edge = make_edge(handle, Limits(bodies_bytes=100))
    client, other = Client(edge), Client(edge)
    clients += [client, other]
    for each in (client, other):
        each.connection.data_received(GET)
    client.connection.data_received(2 * GET)
    assert 2 * len(GET) == edge.bodies.held
    other.connection.data_received(100 * b"a")
    assert ("", "abort") == (client.wire.ended, other.wire.ended)
    other.leave()
    go_on.set()
    await client.settle()

    assert 3 == client.wire.data.count(b"HTTP/1.1 200")
    assert 0 == edge.bodies.held
    clients.remove(other)
