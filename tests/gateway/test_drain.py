"""SIGTERM: no stream is cut, nobody new is kept, and what does not end is told why."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from headgate_cluster.processes import free_ports
from headgate_gateway.admin import Access
from headgate_gateway.main import Process
from headgate_gateway.settings import Settings

from .conftest import Running, until
from .test_http import LIST, STREAM, dial, post, read_answer
from .upstream import Connection, saying

Start = Callable[..., Awaitable[Running]]


async def test_a_stream_that_runs_is_not_cut_by_a_drain(start: Start) -> None:
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.event(text_output="Good", finish_reason="None")
        await go_on.wait()
        await connection.event(text_output="Good bye", finish_reason="stop")
        await connection.end()

    running = await start(script)
    reader, writer = await dial(running)
    writer.write(post(STREAM))
    await reader.readuntil(b"Good")
    drain = asyncio.create_task(running.gateway.drain(0.0, 60.0))
    await until(lambda: not running.gateway.edge._server.sockets)  # type: ignore[union-attr]
    go_on.set()
    rest = await reader.read()

    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    await drain
    writer.close()


async def test_while_draining_requests_are_served_and_connections_given_up(start: Start) -> None:
    running = await start(saying("Hi"))
    reader, writer = await dial(running)
    running.gateway.edge.drain()
    writer.write(post())
    head = await reader.readuntil(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in head
    assert b"Hi" in await reader.read()
    writer.close()


async def test_idle_clients_are_let_go_and_new_ones_refused(start: Start) -> None:
    running = await start()
    reader, writer = await dial(running)
    writer.write(LIST)
    await read_answer(reader)
    await running.gateway.drain(0.0, 60.0)

    assert b"" == await reader.read()
    with pytest.raises(OSError, match=r"."):
        await dial(running)
    writer.close()


async def test_what_does_not_end_in_time_ends_with_an_error(start: Start) -> None:
    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.event(text_output="Good", finish_reason="None")
        await connection.left()

    running = await start(script, script)
    reader, writer = await dial(running)
    writer.write(post(STREAM))
    await reader.readuntil(b"Good")
    other_reader, other_writer = await dial(running)
    other_writer.write(post())
    await until(lambda: len(running.gateway.inference.calls) == 2)
    await running.gateway.drain(0.0, 0.05)
    rest = await reader.read()

    assert b'"code":"gateway_draining"' in rest
    assert b"[DONE]" not in rest
    assert 503 == (await read_answer(other_reader))[0]
    for upstream in running.upstreams:
        await upstream.cancelled.wait()
    writer.close()
    other_writer.close()


class Quiet:
    """A source that is well and tells nothing."""

    async def restore(self) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()

    def unready(self) -> str:
        return ""


async def nobody(_token: str, _path: str) -> Access:
    return "unknown"


async def test_the_admin_port_answers_until_the_data_port_is_empty(tmp_path: Path) -> None:
    port, admin_port = free_ports(2)
    settings = Settings(
        namespace="chat", region="here", port=port, admin_port=admin_port, snapshot_dir=tmp_path
    )
    host = "127.0.0.1"
    process = Process(settings, lambda _: Quiet(), nobody, host=host, accept_seconds=0.0)
    stop = asyncio.Event()
    ended = asyncio.create_task(process.run(stop))
    await until(lambda: process.admin.port > 0)
    async with httpx2.AsyncClient(base_url=f"http://{host}:{admin_port}") as http:
        answer = await http.get("/readyz")
        assert (200, "keep-alive") == (answer.status_code, answer.headers["connection"])
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /v1/models HTTP/1.1\r\n")  # and the rest never comes
        await until(lambda: any(not each.idle for each in process.gateway.edge._connections))
        stop.set()
        await until(lambda: process.gateway.edge.draining)
        answer = await http.get("/readyz")
        assert (503, "draining") == (answer.status_code, answer.text)
        writer.close()
        await ended
        with pytest.raises(httpx2.TransportError):
            await http.get("/readyz")
