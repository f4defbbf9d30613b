"""The probe against servers that speak OpenAI's API well, badly, or not at all."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from headgate_api.errors import Unavailable
from headgate_controllers.contract import Manifest
from headgate_operator import openai, probes, triton

POD: Manifest = {"metadata": {"labels": {}}, "status": {"podIP": "127.0.0.1"}}
Serve = Callable[[int, str], Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`serve(status, body)` answers every completion so, and returns the port."""
    runners: list[web.AppRunner] = []

    async def start(status: int, body: str) -> int:
        async def answer(request: web.Request) -> web.Response:
            asked = await request.json()
            assert {"model": "llm", "prompt": "Hello", "max_tokens": 1} == asked
            return web.Response(status=status, text=body)

        app = web.Application()
        app.router.add_post("/v1/completions", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_token_is_an_answer(serve: Serve) -> None:
    await openai.probe(POD, port=await serve(200, '{"choices": [{"text": "!", "index": 0}]}'))


@pytest.mark.parametrize(
    ("status", "body", "why_not"),
    [
        (200, '{"choices": []}', "the model server answered without a token"),
        (200, "<html>", "the model server sent something that is no answer"),
        (200, "[]", "the model server sent something that is no answer"),
        (400, '{"message": "CUDA error"}', 'the model server answered 400: {"message": "CUDA err'),
        (503, "LLM is unavailable", "the model server answered 503: LLM is unavailable"),
        (500, "x" * 9000, f"the model server answered 500: {'x' * 500}$"),
    ],
)
async def test_anything_else_says_why_not(
    serve: Serve, status: int, body: str, why_not: str
) -> None:
    port = await serve(status, body)
    with pytest.raises(Unavailable, match=why_not):
        await openai.probe(POD, port=port)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="the model server does not answer"):
        await openai.probe(POD, port=1)


@pytest.mark.parametrize(
    ("runtime", "dialect"),
    [("trtllm-serve", "openai"), ("triton-llmapi", "triton"), (None, "triton")],
)
async def test_a_pods_label_tells_what_it_speaks(
    monkeypatch: pytest.MonkeyPatch, runtime: str | None, dialect: str
) -> None:
    asked: list[Any] = []

    def noting(name: str) -> Callable[[Manifest], Awaitable[None]]:
        async def probe(_: Manifest) -> None:
            asked.append(name)

        return probe

    for module, name in ((openai, "openai"), (triton, "triton")):
        monkeypatch.setattr(module, "probe", noting(name))
    labels = {} if runtime is None else {"headgate.dev/runtime": runtime}
    await probes.probe({**POD, "metadata": {"labels": labels}})

    assert [dialect] == asked
