"""A gateway process that is killed: what it had answered is replayed, what it was at runs again."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headgate_cluster.files import TREE
from headgate_gateway.idempotency.store import LEASE

from .test_http import STREAM, post, read_answer
from .upstream import Connection, Upstream, saying


@asynccontextmanager
async def gateway(folder: Path, upstream: int, ahead: float = 0.0) -> AsyncIterator[int]:
    """Run one, and kill it as the kernel does. Gives its port."""
    arguments = (str(folder), str(upstream), str(ahead))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.gateway.lone_gateway", *arguments),
        cwd=TREE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.stdout.read()
        await process.wait()


async def ask(port: int, key: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(STREAM, b"idempotency-key: " + key.encode(), b"connection: close"))
    return reader, writer


async def whole(port: int, key: str) -> bytes:
    reader, writer = await ask(port, key)
    answer = await reader.read()
    writer.close()
    return answer


def body_of(answer: bytes) -> bytes:
    """Join the chunks of an answer; how many there are is nobody's business."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while size := int(rest.partition(b"\r\n")[0], 16):
        start = rest.index(b"\r\n") + 2
        body += rest[start : start + size]
        rest = rest[start + size + 2 :]
    return body


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream(saying())
    yield upstream
    await upstream.stop()


async def test_a_kill_forgets_no_answer_and_frees_the_key_in_work_after_its_lease(
    tmp_path: Path, upstream: Upstream
) -> None:
    hang = False

    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.event(text_output="Good", finish_reason="None")
        if hang:
            await connection.left()
        await connection.event(text_output="Good bye", finish_reason="stop")
        await connection.end()

    upstream.script = script
    served = await upstream.start("127.0.0.1")
    async with gateway(tmp_path, served) as port:
        given = await whole(port, "answered")
        hang = True
        reader, writer = await ask(port, "in work")
        await reader.readuntil(b"Good")  # so the claim is written, and the outcome before it
    writer.close()
    hang = False

    async with gateway(tmp_path, served) as port:
        again = await whole(port, "answered")
        reader, writer = await ask(port, "in work")
        status, body = await read_answer(reader)
        writer.close()
    assert body_of(given) == body_of(again)
    assert b"idempotency-replayed: true\r\n" in again
    assert (409, True) == (status, b"idempotency_key_in_use" in body)
    assert 2 == upstream.requests

    async with gateway(tmp_path, served, ahead=LEASE + 1) as port:
        assert b" bye" in await whole(port, "in work")
        assert b"idempotency-replayed: true\r\n" in await whole(port, "in work")
    assert 3 == upstream.requests
