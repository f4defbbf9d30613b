"""The data port as a hostile, slow or vanishing client meets it: raw bytes over real sockets."""

import asyncio
import contextlib
import fcntl
import json
import socket
import sys
import termios
from collections.abc import Awaitable, Callable

from headgate_gateway.edge.limits import Limits

from .conftest import ENSEMBLE, KEY, TENANT, Running, model, until
from .upstream import Connection, saying

Start = Callable[..., Awaitable[Running]]
BODY = json.dumps(
    {"model": "llama-3-1-8b", "messages": [{"role": "user", "content": "Hello"}]}
).encode()
STREAM = BODY[:-1] + b', "stream": true}'
AUTH = b"host: x\r\nauthorization: Bearer %s\r\n" % KEY.encode()
LIST = b"GET /v1/models HTTP/1.1\r\n" + AUTH + b"\r\n"
LIST_AND_CLOSE = LIST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


def post(body: bytes = BODY, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    length = b"content-length: %d\r\n\r\n" % len(body)
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + AUTH + lines + length + body


async def talk(running: Running, *pieces: bytes) -> bytes:
    """Send pieces, then read until the gateway closes the connection."""
    reader, writer = await dial(running)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    answer = await reader.read()
    writer.close()
    return answer


async def dial(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", running.gateway.edge.port)


async def dial_narrowly(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect with as little room for what is not read yet as the kernel gives."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(small, ("127.0.0.1", running.gateway.edge.port))
    return await asyncio.open_connection(sock=small, limit=4096)


async def transport_of_one(running: Running) -> asyncio.Transport:
    """Return the gateway's end of the only connection, once it has answered on it."""
    answered = running.gateway.metrics.requests.of("200", "")
    await until(lambda: answered.value > 0)
    return next(iter(running.gateway.edge._connections))._transport


def held_by_kernel(transport: asyncio.Transport) -> int:
    """Count the bytes that were written and have not reached the client."""
    held = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(held, sys.byteorder)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer that has a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    return int(head.split()[1]), await reader.readexactly(length)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


P = b"POST /v1/chat/completions HTTP/1.1\r\n" + AUTH
CHUNKED = b"transfer-encoding: chunked\r\n"


async def test_a_refused_client_can_read_why_although_it_goes_on_sending(start: Start) -> None:
    running = await start(saying("Hi"))
    answer = await talk(running, P + b"content-length: 5\r\n" + CHUNKED + b"\r\n", 100 * LIST)

    assert 400 == status(answer)
    assert 1 == answer.count(b"HTTP/1.1 ")
    assert b"connection: close" in answer
    assert b'"code":"malformed_request"' in answer


async def test_requests_that_come_in_one_piece_are_answered_in_order(start: Start) -> None:
    running = await start(saying("Hi"))
    reader, writer = await dial(running)
    writer.write(LIST + post() + b"GET /nothing HTTP/1.1\r\n" + AUTH + b"\r\n")

    assert 200 == (await read_answer(reader))[0]
    code, body = await read_answer(reader)
    assert (200, "Hi") == (code, json.loads(body)["choices"][0]["message"]["content"])
    assert 404 == (await read_answer(reader))[0]
    writer.close()


async def test_a_request_after_a_closing_one_is_not_answered(start: Start) -> None:
    running = await start()
    answer = await talk(running, LIST_AND_CLOSE + LIST)

    assert 1 == answer.count(b"HTTP/1.1 200")


async def test_a_request_cut_into_single_bytes_is_one_request(start: Start) -> None:
    running = await start(saying("Hi"))
    whole = P + CHUNKED + b"connection: close\r\n\r\n%x;a=b\r\n%s\r\n0\r\nx: y\r\n\r\n"
    pieces = [bytes([byte]) for byte in whole % (len(BODY), BODY)]

    assert 200 == status(await talk(running, *pieces))


async def test_headers_beyond_their_limit_are_refused(start: Start) -> None:
    running = await start(limits=Limits(head_bytes=1000, headers=10, url_bytes=100))

    assert 431 == status(await talk(running, P + b"x: " + 2000 * b"a" + b"\r\n\r\n"))
    assert 431 == status(await talk(running, P + b"x: ", 600 * b"a", 600 * b"a", 600 * b"a"))
    assert 431 == status(await talk(running, P + 20 * b"x: y\r\n" + b"\r\n"))
    assert 431 == status(
        await talk(running, b"GET /" + 200 * b"a" + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    )


async def test_a_body_beyond_its_limit_is_refused_however_it_is_framed(start: Start) -> None:
    running = await start(limits=Limits(body_bytes=100))
    chunk = b"40\r\n" + 64 * b"a" + b"\r\n"

    assert 413 == status(await talk(running, P + b"content-length: 101\r\n\r\n"))
    assert 413 == status(await talk(running, P + CHUNKED + b"\r\n" + chunk, chunk))


async def test_a_body_that_takes_its_time_needs_a_key_first(start: Start) -> None:
    running = await start(saying("Hi"))
    head = P + b"content-length: 1000000\r\n\r\n"
    answer = await talk(running, head.replace(KEY.encode(), b"wrong"), 1000 * b"a")

    assert 401 == status(answer)
    assert b"www-authenticate: Bearer" in answer
    assert 0 == running.gateway.edge.bodies.held


async def test_bodies_of_all_clients_together_are_bounded(start: Start) -> None:
    running = await start(saying("Hi"), limits=Limits(bodies_bytes=1000))
    edge = running.gateway.edge
    _, slow = await dial(running)
    slow.write(P + b"content-length: 1000\r\n\r\n" + 950 * b"a")
    await until(lambda: edge.bodies.held == 950)
    refused = await talk(running, post())

    assert 503 == status(refused)
    assert b'"code":"gateway_overloaded"' in refused
    assert b"retry-after: 1\r\n" in refused
    slow.transport.abort()
    await until(lambda: edge.bodies.held == 0)
    assert 200 == status(await talk(running, post(BODY, b"connection: close")))
    assert 0 == edge.bodies.held


async def test_endless_chunk_extensions_are_refused(start: Start) -> None:
    running = await start(limits=Limits(head_bytes=1000))
    answer = await talk(running, P + CHUNKED + b"\r\n5;", *[500 * b"a"] * 4)

    assert 400 == status(answer)


async def test_a_client_that_waits_for_the_go_ahead_gets_it(start: Start) -> None:
    running = await start(saying("Hi"))
    reader, writer = await dial(running)
    head, _, body = post(BODY, b"expect: 100-continue").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
    writer.write(body)

    assert 200 == (await read_answer(reader))[0]
    writer.close()


async def test_a_head_that_trickles_in_gets_a_deadline(start: Start) -> None:
    running = await start(limits=Limits(head_seconds=0.05))
    answer = await talk(running, b"GET /v1/models HTTP/1.1\r\nhost:")

    assert 408 == status(answer)


async def test_a_body_that_stalls_is_not_waited_for(start: Start) -> None:
    running = await start(limits=Limits(body_seconds=0.05))

    assert 408 == status(await talk(running, P + b"content-length: 10\r\n\r\nhell"))


async def test_an_idle_connection_is_closed_in_silence(start: Start) -> None:
    running = await start(limits=Limits(idle_seconds=0.05, head_seconds=0.05))

    assert b"" == await talk(running)
    assert 1 == (await talk(running, LIST)).count(b"HTTP/1.1 ")


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_the_connection(
    start: Start,
) -> None:
    running = await start(saying("Good", " day"))
    answer = await talk(running, post(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


async def test_head_gets_headers_and_no_body(start: Start) -> None:
    running = await start()
    answer = await talk(running, LIST_AND_CLOSE.replace(b"GET", b"HEAD"))

    assert 200 == status(answer)
    assert answer.endswith(b"\r\n\r\n")


async def test_the_wrong_method_is_told_the_right_one(start: Start) -> None:
    running = await start()
    request = b"GET /v1/chat/completions HTTP/1.1\r\n" + AUTH + b"connection: close\r\n\r\n"

    answer = await talk(running, request)
    assert 405 == status(answer)
    assert b"allow: POST\r\n" in answer


async def test_a_client_that_goes_away_cancels_the_model_server_at_once(start: Start) -> None:
    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.event(text_output="Good", finish_reason="None")
        await connection.left()
        gone.set()

    gone = asyncio.Event()
    running = await start(script)
    for body in (STREAM, BODY):
        gone.clear()
        reader, writer = await dial(running)
        writer.write(post(body))
        if body is STREAM:
            await reader.readuntil(b"Good")
        else:
            await until(lambda: bool(running.upstreams[0].open))
        writer.transport.abort()
        await gone.wait()
    await until(lambda: not running.gateway.inference.calls)


async def test_what_is_sent_ahead_waits_and_is_bounded(start: Start) -> None:
    hold = asyncio.Event()
    say = saying("Hi")

    async def script(connection: Connection) -> None:
        await hold.wait()
        await say(connection)

    running = await start(script, limits=Limits(ahead_bytes=1000))
    reader, writer = await dial(running)
    ahead = 5000
    writer.write(post())
    await until(lambda: running.upstreams[0].requests == 1)
    writer.write(ahead * LIST)
    connection = next(iter(running.gateway.edge._connections))
    await until(lambda: not connection._transport.is_reading())
    held = len(connection._ahead)
    assert held < len(ahead * LIST)
    hold.set()

    for _ in range(ahead + 1):
        assert 200 == (await read_answer(reader))[0]
    writer.close()


async def test_a_slow_reader_slows_the_model_server_down_and_memory_stays_bounded(
    start: Start,
) -> None:
    piece, pieces, sent = "~" * 10_000, 3000, 0

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.begin()
        for sent in range(1, pieces + 1):  # noqa: B007 - told to the test
            await connection.event(text_output=piece)
        await connection.end()

    running = await start(script, entries=(ENSEMBLE, TENANT))
    reader, writer = await dial_narrowly(running)
    writer.write(post(STREAM[:-1] + b', "max_tokens": 1000000}'))
    await reader.readuntil(b"data: ")
    connection = next(iter(running.gateway.edge._connections))
    settled = -1
    while settled != sent:  # until the model server is held back too
        settled = sent
        for _ in range(1000):
            await asyncio.sleep(0)

    assert sent < pieces
    assert connection._transport.get_write_buffer_size() < 1_000_000
    assert held_by_kernel(connection._transport) < 200_000
    data = bytearray()
    while not data.endswith(b"0\r\n\r\n"):
        data += await reader.read(65536)
    assert pieces * len(piece) == data.count(b"~")
    writer.close()


async def test_answers_that_the_client_does_not_read_do_not_pile_up(start: Start) -> None:
    models = [model(name=f"m-{number}", public_name=100 * f"{number:02}") for number in range(50)]
    running = await start(entries=(*models, TENANT))
    asked = 1500
    reader, writer = await dial_narrowly(running)
    writer.write((asked - 1) * LIST + LIST_AND_CLOSE)
    transport = await transport_of_one(running)
    answered = running.gateway.metrics.requests.of("200", "")
    settled = -1
    while settled != answered.value or not settled:
        settled = answered.value
        for _ in range(1000):
            await asyncio.sleep(0)

    assert answered.value < asked
    assert transport.get_write_buffer_size() < 200_000
    data = bytearray()
    while piece := await reader.read(65536):
        data += piece
    assert asked == data.count(b"HTTP/1.1 200 OK")
    writer.close()


async def test_a_client_that_never_reads_its_answers_is_dropped(start: Start) -> None:
    models = [model(name=f"m-{number}", public_name=100 * f"{number:02}") for number in range(50)]
    running = await start(entries=(*models, TENANT), limits=Limits(send_seconds=0.05))
    _, writer = await dial_narrowly(running)
    writer.write(1500 * LIST)
    await transport_of_one(running)
    await running.gateway.edge.emptied()
    writer.transport.abort()


async def test_a_client_that_takes_nothing_at_all_is_dropped(start: Start) -> None:
    async def script(connection: Connection) -> None:
        await connection.begin()
        while True:
            await connection.event(text_output="x" * 10_000)

    running = await start(script, entries=(ENSEMBLE, TENANT), limits=Limits(send_seconds=0.05))
    _, writer = await dial(running)
    writer.write(post(STREAM))
    await running.upstreams[0].cancelled.wait()
    writer.close()


async def test_both_sides_send_without_delay(start: Start) -> None:
    running = await start(saying("Hi"))
    reader, writer = await dial(running)
    writer.write(post())
    await read_answer(reader)
    towards_client = next(iter(running.gateway.edge._connections))._transport
    pod = running.gateway.pods._by_name["chat", "pod-1"]
    towards_pod = pod._resting._connections[0]._transport

    for transport in (towards_client, towards_pod):
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()


async def test_more_clients_than_allowed_are_turned_away(start: Start) -> None:
    running = await start(limits=Limits(connections=1))
    reader, writer = await dial(running)
    writer.write(LIST)
    await read_answer(reader)

    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await talk(running, LIST)
    assert b"" == answer
    writer.close()
