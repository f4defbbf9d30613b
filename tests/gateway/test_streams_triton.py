"""Streams in segments from real Triton servers with the simulated LLM, read by OpenAI's client."""

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from headgate_cluster.triton import Triton
from headgate_gateway.routing.pods import Pod, Pool

from .clients import tries
from .conftest import COHORT_NAME, KEY, NAME, Running
from .test_streams import entries
from .test_triton import HELLO
from .tritons import simulated

pytestmark = pytest.mark.triton
Before = Callable[..., Awaitable[Running]]
LONG: Any = [{"role": "user", "content": "Go on. [[sim: tokens 9000; slow 10ms]]"}]
Start = Callable[..., Awaitable[Running]]


@pytest.fixture(scope="module", params=["llmapi", "python"])
def tritons(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[Triton]]]:
    """The dialect, and two servers of the same model."""
    with simulated(request.param) as one, simulated(request.param) as other:
        yield request.param, [one, other]


@pytest.fixture
async def before(start: Start, tritons: tuple[str, list[Triton]]) -> Any:
    """`await before(...)`: a gateway before the two servers, whose policy streams so."""
    dialect, servers = tritons
    placed: list[Pod] = []

    async def begin(**how: Any) -> Running:
        running = await start(entries=entries(f"triton-{dialect}", **how))
        for number, server in enumerate(servers):
            name, pool = f"triton-{number}", Pool("chat", "uid-llama")
            at = {"host": "127.0.0.1", "port": server.http}
            pod = Pod(name=name, uid=name, cohort=COHORT_NAME, pool=pool, **at)
            running.gateway.pods.place(("chat", name), pod)
            placed.append(pod)
        return running

    yield begin
    for pod in placed:  # the servers outlive the event loop, and so would connections to them
        pod.retire()


def client(running: Running) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0)


async def test_every_chunk_is_a_whole_sentence(before: Before) -> None:
    ask = {"model": NAME, "messages": HELLO, "seed": 5, "max_tokens": 200}
    async with client(await before(max_hold=10.0)) as ai:
        plain = await ai.chat.completions.create(**ask)
        stream = await ai.chat.completions.create(**ask, stream=True)
        pieces = [c.choices[0].delta.content async for c in stream if c.choices[0].delta.content]

    assert plain.choices[0].message.content == "".join(pieces)
    assert len(pieces) > 1
    assert {True} == {piece.rstrip()[-1] in ".!?" for piece in pieces[:-1]}


async def test_a_stream_whose_time_is_over_ends_well(before: Before) -> None:
    async with client(await before()) as ai:
        stream = await ai.chat.completions.create(
            model=NAME,
            messages=LONG,
            max_tokens=100_000,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-request-timeout-ms": "1500"},
        )
        *chunks, last, counts = [chunk async for chunk in stream]

    assert "length" == last.choices[0].finish_reason
    assert {"headgate": {"stopped": "deadline_exceeded"}} == last.model_extra
    assert "…" == (chunks[-1].choices[0].delta.content or "").strip()
    assert counts.usage is not None
    assert counts.usage.completion_tokens > 1


async def test_another_server_goes_on_when_one_is_killed_in_a_stream(
    before: Before, tritons: tuple[str, list[Triton]]
) -> None:
    """The last one of this file: it kills a server."""
    running = await before(on_upstream_loss="Continue", max_hold=0.05)
    async with client(running) as ai:
        stream = await ai.chat.completions.create(
            model=NAME,
            messages=LONG,
            max_tokens=200,
            stream=True,
            stream_options={"include_usage": True},
        )
        await anext(stream)
        (call,) = running.gateway.inference.calls
        assert call.last is not None
        os.kill(tritons[1][int(call.last.pod.name[-1])].pid, signal.SIGKILL)
        *_, last, counts = [chunk async for chunk in stream]

    assert "length" == last.choices[0].finish_reason
    assert counts.usage is not None
    assert 200 == counts.usage.completion_tokens
    assert ("ok", "upstream_lost") == tries(running)
