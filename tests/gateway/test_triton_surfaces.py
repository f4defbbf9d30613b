"""Tools, structured answers, completions and embeddings on a real Triton server."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from headgate_api.snapshot import Cohort
from headgate_cluster.files import TREE
from headgate_cluster.triton import Triton

from .conftest import COHORT_NAME, KEY, NAME, TENANT, Running, cohort, model, pod
from .test_structured import CLOCK, TEMPLATE

pytestmark = pytest.mark.triton
Start = Callable[..., Awaitable[Running]]
SIMULATED = TREE / "images" / "triton-sim" / "models"
EMBEDDING = Path(__file__).parent / "models"
EMBEDS = Cohort(
    name=COHORT_NAME,
    variant="bf16",
    revision="0a1b2c3d",
    runtime="triton-python",
    served_model="embedding",
)


class Answer(BaseModel):
    n: int


def told(text: str) -> Any:
    return [{"role": "user", "content": text}]


def served(folder: Path, name: str) -> Iterator[Triton]:
    with Triton(folder, ["--model-control-mode=explicit", f"--load-model={name}"]) as triton:
        yield triton


@pytest.fixture(scope="module")
def ensemble() -> Iterator[Triton]:
    yield from served(SIMULATED / "python", "ensemble")


@pytest.fixture(scope="module")
def embedding() -> Iterator[Triton]:
    yield from served(EMBEDDING, "embedding")


@asynccontextmanager
async def client(
    start: Start, triton: Triton, *cohorts: Cohort, **more: Any
) -> AsyncIterator[AsyncOpenAI]:
    running = await start(entries=(model(*cohorts, **more), TENANT))
    pods = running.gateway.pods
    pods._port = triton.http
    pods.put(pod("triton", "127.0.0.1"))
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as found:
        yield found
    pods.gone("chat", "triton")  # and with it the connections that rest


@pytest.fixture
async def ai(start: Start, ensemble: Triton) -> AsyncIterator[AsyncOpenAI]:
    knowing = cohort(runtime="triton-python")
    async with client(start, ensemble, knowing, chat_template=TEMPLATE) as found:
        yield found


async def test_a_tool_is_called(ai: AsyncOpenAI) -> None:
    asked = '[[sim: tool_call {"name": "clock", "arguments": {"zone": "UTC"}}]]'
    tools: Any = [CLOCK]
    plain = await ai.chat.completions.create(model=NAME, messages=told(asked), tools=tools)
    async with ai.chat.completions.stream(model=NAME, messages=told(asked), tools=tools) as events:
        streamed = await events.get_final_completion()

    for answer in (plain, streamed):
        [choice] = answer.choices
        assert choice.message.tool_calls is not None
        [call] = choice.message.tool_calls
        assert call.type == "function"
        assert ("clock", '{"zone": "UTC"}') == (call.function.name, call.function.arguments)
        assert "tool_calls" == choice.finish_reason


async def test_an_answer_is_checked(ai: AsyncOpenAI) -> None:
    right = told('[[sim: json {"n": 5}]]')
    parsed = await ai.chat.completions.parse(model=NAME, messages=right, response_format=Answer)
    assert Answer(n=5) == parsed.choices[0].message.parsed

    wrong = told('[[sim: json {"n": "five"}]]')
    with pytest.raises(openai.InternalServerError) as caught:
        await ai.chat.completions.parse(model=NAME, messages=wrong, response_format=Answer)
    assert "invalid_output" == caught.value.code


async def test_a_text_is_gone_on_with(ai: AsyncOpenAI) -> None:
    asked: Any = {"model": NAME, "prompt": '[[sim: say "upon a time"]]'}
    plain = await ai.completions.create(**asked)
    stream = await ai.completions.create(**asked, stream=True)
    chunks = [chunk async for chunk in stream]

    assert ("upon a time", "stop") == (plain.choices[0].text, plain.choices[0].finish_reason)
    assert "upon a time" == "".join(chunk.choices[0].text for chunk in chunks)


async def test_texts_become_vectors(start: Start, embedding: Triton) -> None:
    texts = ["One two", "three", "<|im_start|> \N{SNOWMAN}"]
    async with client(start, embedding, EMBEDS) as ai:
        packed = await ai.embeddings.create(model=NAME, input=texts)
        floats = await ai.embeddings.create(model=NAME, input=texts, encoding_format="float")
        one = await ai.embeddings.create(model=NAME, input=texts[0], dimensions=3)
        with pytest.raises(openai.BadRequestError) as caught:
            await ai.embeddings.create(model=NAME, input="x", dimensions=9)

    assert packed.data == floats.data
    assert 3 == len({tuple(row.embedding) for row in packed.data})
    assert 5 == packed.usage.prompt_tokens
    [row] = one.data
    assert 3 == len(row.embedding)
    assert 1.0 == pytest.approx(math.hypot(*row.embedding))
    assert ("invalid_value", "dimensions") == (caught.value.code, caught.value.param)


async def test_a_model_that_only_talks_embeds_nothing(ai: AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await ai.embeddings.create(model=NAME, input="x")
    assert "upstream_error" == caught.value.code
