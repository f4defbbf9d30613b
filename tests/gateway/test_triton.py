"""A gateway in front of a real Triton server with the simulated LLM, in both dialects."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from headgate_cluster.triton import Triton

from .conftest import ENSEMBLE, KEY, MODEL, NAME, TENANT, Running, pod
from .tritons import simulated

pytestmark = pytest.mark.triton
Start = Callable[..., Awaitable[Running]]
HELLO: Any = [{"role": "user", "content": "Tell me about the harbour."}]


@pytest.fixture(params=["llmapi", "ensemble"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, Triton]]:
    """The dialect, and a Triton that speaks it."""
    with simulated("llmapi" if request.param == "llmapi" else "python") as triton:
        yield request.param, triton


@pytest.fixture
async def running(start: Start, served: tuple[str, Triton]) -> Running:
    dialect, triton = served
    begun = await start(entries=(MODEL if dialect == "llmapi" else ENSEMBLE, TENANT))
    begun.gateway.pods._port = triton.http
    begun.gateway.pods.put(pod("triton", "127.0.0.1"))
    return begun


@pytest.fixture
async def ai(running: Running) -> Any:
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as client:
        yield client


async def test_streams_and_plain_answers_say_the_same(ai: AsyncOpenAI) -> None:
    plain = await ai.chat.completions.create(model=NAME, messages=HELLO, seed=5)
    stream = await ai.chat.completions.create(
        model=NAME, messages=HELLO, seed=5, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert plain.choices[0].message.content
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert plain.choices[0].message.content == said
    assert plain.choices[0].finish_reason == chunks[-2].choices[0].finish_reason
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 1


async def test_a_limit_and_a_stop_word_are_kept(ai: AsyncOpenAI) -> None:
    short = await ai.chat.completions.create(model=NAME, messages=HELLO, max_tokens=3)
    assert "length" == short.choices[0].finish_reason
    assert short.usage is not None
    assert 3 == short.usage.completion_tokens

    whole = await ai.chat.completions.create(model=NAME, messages=HELLO)
    word = (whole.choices[0].message.content or "").split()[3]
    cut = await ai.chat.completions.create(model=NAME, messages=HELLO, stop=[word])
    assert "stop" == cut.choices[0].finish_reason
    assert word not in (cut.choices[0].message.content or "")


async def test_a_client_that_leaves_frees_the_slot(
    ai: AsyncOpenAI, served: tuple[str, Triton]
) -> None:
    stream = await ai.chat.completions.create(
        model=NAME, messages=HELLO, max_tokens=100_000, stream=True, extra_body={"seed": 1}
    )
    async for _ in stream:
        break
    await stream.close()
    while await _active(served[1]):  # noqa: ASYNC110 - nobody would tell us
        await asyncio.sleep(0.05)


async def _active(triton: Triton) -> int:
    """Requests that the model works on, by its own metrics."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{triton.metrics}/metrics") as answer,
    ):
        text = await answer.text()
    lines = [line for line in text.splitlines() if 'request_type="active"' in line]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)


async def test_a_server_that_is_killed_in_a_stream_is_an_error_in_it(
    ai: AsyncOpenAI, served: tuple[str, Triton]
) -> None:
    stream = await ai.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": HELLO[0]["content"]}], stream=True
    )
    text = ""

    async def read() -> None:
        nonlocal text
        async for chunk in stream:
            if not text:
                os.kill(served[1].pid, signal.SIGKILL)
            text += chunk.choices[0].delta.content or ""

    with pytest.raises(openai.APIError) as caught:
        await read()
    assert "upstream_lost" == caught.value.code
