"""The input budget in front of a real Triton server with the simulated LLM, in both dialects.

The simulator cuts words in its own way: it counts like no tokenizer of anybody's.
"""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from headgate_api.snapshot import ContextBody
from headgate_cluster.triton import Triton
from headgate_gateway.context.counting import estimate_input
from headgate_gateway.context.evidence import INTRODUCTION
from headgate_gateway.context.fit import LEFT_OUT

from .conftest import ENSEMBLE, KEY, MODEL, NAME, Running, pod
from .test_context import behind, compiled, read, said, talk
from .tritons import simulated

pytestmark = pytest.mark.triton
Start = Callable[..., Awaitable[Running]]
NARROW = ContextBody(max_input_tokens=200, truncate=True)


@pytest.fixture(params=["llmapi", "ensemble"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, Triton]]:
    with simulated("llmapi" if request.param == "llmapi" else "python") as triton:
        yield request.param, triton


@pytest.fixture
async def running(start: Start, served: tuple[str, Triton]) -> Running:
    dialect, triton = served
    begun = await start(entries=behind(NARROW, MODEL if dialect == "llmapi" else ENSEMBLE))
    begun.gateway.pods._port = triton.http
    begun.gateway.pods.put(pod("triton", "127.0.0.1"))
    return begun


@pytest.fixture
async def ai(running: Running) -> Any:
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as client:
        yield client


async def test_what_is_too_long_is_refused_and_what_may_go_is_left_out(ai: AsyncOpenAI) -> None:
    long: Any = [said("user", "word " * 2000)]
    with pytest.raises(openai.BadRequestError) as caught:
        await ai.chat.completions.create(model=NAME, messages=long)
    assert ("context_length_exceeded", "messages") == (caught.value.code, caught.value.param)

    old: Any = [*talk(8)[:-1], said("user", "And now? [[sim: echo]]")]
    raw = await ai.chat.completions.with_raw_response.create(
        model=NAME, messages=old, max_tokens=400
    )
    told = raw.parse().choices[0].message.content or ""
    assert raw.headers["x-headgate-context"].startswith("truncated; dropped=History:")
    assert ("Be brief." in told, "turn 0" in told, "And now?" in told) == (True, False, True)


async def test_a_call_keeps_its_result_and_evidence_is_quoted(ai: AsyncOpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "tides", "arguments": "{}"}}
    messages: Any = [
        said("user", "When?"),
        said("assistant", "", tool_calls=[call]),
        said("tool", "noon " * 500, tool_call_id="c1"),
        said("assistant", "At noon."),
        said("user", "Sure? [[sim: echo]]"),
    ]
    evidence = {"context": [{"source": "manual", "text": "High at noon."}]}
    answer = await ai.chat.completions.create(
        model=NAME, messages=messages, max_tokens=400, extra_body=evidence
    )
    told = answer.choices[0].message.content or ""
    assert (1, 0) == (told.count(LEFT_OUT), told.count("noon noon"))
    assert f'{INTRODUCTION}\n\n[1] "manual", untrusted\n> High at noon.' in told


async def test_the_models_own_counts_correct_the_estimate(
    ai: AsyncOpenAI, running: Running, served: tuple[str, Triton]
) -> None:
    """Only the ensemble counts."""
    messages: Any = [said("user", "Tell me about the harbour and its lighthouse keeper, please.")]
    answer = await ai.chat.completions.create(model=NAME, messages=messages, max_tokens=2)
    await ai.chat.completions.create(model=NAME, messages=messages, max_tokens=2)
    assert answer.usage is not None

    body = json.dumps({"model": NAME, "messages": messages}).encode()
    asked = read("/v1/chat/completions", body)
    known = running.gateway.preparation.calibrations._of.get(compiled(ENSEMBLE).pool)
    if served[0] == "llmapi":
        assert known is None
    else:
        assert known is not None
        assert answer.usage.prompt_tokens == round(estimate_input(asked) * known.ratio)
