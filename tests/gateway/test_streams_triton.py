"""Streams in segments from real Triton servers with the simulated LLM, read by OpenAI's client."""

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from openai import AsyncOpenAI

from headgate_cluster.triton import Triton
from headgate_gateway.routing.pods import Pod, Pool

from .clients import tries
from .conftest import COHORT_NAME, KEY, NAME, Running
from .test_streams import entries
from .test_triton import HELLO, MODELS

pytestmark = pytest.mark.triton
LONG: Any = [{"role": "user", "content": "Go on. [[sim: tokens 9000; slow 10ms]]"}]
Start = Callable[..., Awaitable[Running]]


@pytest.fixture(scope="module", params=["llmapi", "python"])
def tritons(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[Triton]]]:
    """The dialect, and two servers of the same model."""
    name = "tensorrt_llm" if request.param == "llmapi" else "ensemble"
    arguments = ["--model-control-mode=explicit", f"--load-model={name}"]
    with ExitStack() as stack:
        folder = MODELS / request.param
        yield (
            request.param,
            [stack.enter_context(Triton(folder, arguments)) for _ in range(2)],
        )


async def before(start: Start, tritons: tuple[str, list[Triton]], **how: Any) -> Running:
    """A gateway before the two servers, with a policy that says how to stream."""
    dialect, servers = tritons
    running = await start(entries=entries(f"triton-{dialect}", **how))
    for number, server in enumerate(servers):
        name, pool = f"triton-{number}", Pool("chat", "uid-llama")
        pod = Pod(
            name=name, uid=name, host="127.0.0.1", port=server.http, cohort=COHORT_NAME, pool=pool
        )
        running.gateway.pods.place(("chat", name), pod)
    return running


@pytest.fixture
async def asking() -> Any:
    clients: list[AsyncOpenAI] = []

    def make(running: Running) -> AsyncOpenAI:
        clients.append(AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def test_every_chunk_is_a_whole_sentence(start: Start, tritons: Any, asking: Any) -> None:
    ai = asking(await before(start, tritons, max_hold=10.0))
    plain = await ai.chat.completions.create(model=NAME, messages=HELLO, seed=5, max_tokens=200)
    stream = await ai.chat.completions.create(
        model=NAME, messages=HELLO, seed=5, max_tokens=200, stream=True
    )
    pieces = [c.choices[0].delta.content async for c in stream if c.choices[0].delta.content]

    assert plain.choices[0].message.content == "".join(pieces)
    assert len(pieces) > 1
    assert {True} == {piece.rstrip()[-1] in ".!?" for piece in pieces[:-1]}


async def test_a_stream_whose_time_is_over_ends_well(
    start: Start, tritons: Any, asking: Any
) -> None:
    ai = asking(await before(start, tritons))
    stream = await ai.chat.completions.create(
        model=NAME,
        messages=LONG,
        max_tokens=100_000,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"x-request-timeout-ms": "1500"},
    )
    *chunks, last, usage = [chunk async for chunk in stream]

    assert "length" == last.choices[0].finish_reason
    assert {"stopped": "deadline_exceeded"} == last.model_extra["headgate"]
    assert "…" == chunks[-1].choices[0].delta.content.strip()
    assert usage.usage.completion_tokens > 1


async def test_another_server_goes_on_when_one_is_killed_in_a_stream(
    start: Start, tritons: Any, asking: Any
) -> None:
    """The last one of this file: it kills a server."""
    running = await before(start, tritons, on_upstream_loss="Continue", max_hold=0.05)
    ai = asking(running)
    stream = await ai.chat.completions.create(
        model=NAME,
        messages=LONG,
        max_tokens=200,
        stream=True,
        stream_options={"include_usage": True},
    )
    finish, usage, killed = None, None, False
    async for chunk in stream:
        if not killed:
            (call,) = running.gateway.inference.calls
            assert call.last is not None
            server = tritons[1][int(call.last.pod.name[-1])]
            os.kill(server.pid, signal.SIGKILL)
            killed = True
        if chunk.choices:
            finish = chunk.choices[0].finish_reason or finish
        usage = chunk.usage or usage

    assert finish in {"stop", "length"}
    assert usage is not None
    assert 1 < usage.completion_tokens <= 200
    assert ("ok", "upstream_lost") == tries(running)
