"""The official OpenAI SDK is the judge: what it makes of our answers, streams and errors."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from .conftest import ENSEMBLE, KEY, NAME, TENANT, Running, cohort, model
from .upstream import Connection, ensemble_saying, saying

Start = Callable[..., Awaitable[Running]]
HELLO: Any = [{"role": "user", "content": "Hello"}]


def client(running: Running, key: str = KEY) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=running.url, api_key=key, max_retries=0)


async def test_a_plain_answer_has_text_reason_and_usage(start: Start) -> None:
    running = await start(saying("Good", " morning", "."))
    async with client(running) as ai:
        answer = await ai.chat.completions.create(model=NAME, messages=HELLO)

    choice = answer.choices[0]
    assert ("Good morning.", "stop") == (choice.message.content, choice.finish_reason)
    assert answer.usage is not None
    assert 3 == answer.usage.completion_tokens
    assert (NAME, "0a1b2c3d") == (answer.model, answer.system_fingerprint)


async def test_a_stream_begins_with_the_role_and_ends_with_reason_and_usage(start: Start) -> None:
    running = await start(saying("Good", " morning", finish="length"))
    async with client(running) as ai:
        stream = await ai.chat.completions.create(
            model=NAME, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    assert "assistant" == chunks[0].choices[0].delta.role
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "Good morning" == text
    assert "length" == chunks[-2].choices[0].finish_reason
    assert [] == chunks[-1].choices
    assert chunks[-1].usage is not None
    assert 2 == chunks[-1].usage.completion_tokens
    assert all(c.usage is None for c in chunks[:-1])
    assert 1 == len({c.id for c in chunks})


async def test_a_stream_that_asks_for_no_usage_gets_none(start: Start) -> None:
    running = await start(saying("Hi"))
    async with client(running) as ai:
        stream = await ai.chat.completions.create(model=NAME, messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]

    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


async def test_the_synchronous_client_gets_the_same(start: Start) -> None:
    running = await start(saying("Good", " morning"))

    def ask() -> tuple[str | None, str]:
        with OpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:
            plain = ai.chat.completions.create(model=NAME, messages=HELLO)
            stream = ai.chat.completions.create(model=NAME, messages=HELLO, stream=True)
            text = "".join(c.choices[0].delta.content or "" for c in stream)
            return plain.choices[0].message.content, text

    assert ("Good morning", "Good morning") == await asyncio.to_thread(ask)


async def test_the_ensemble_speaks_its_own_dialect(start: Start) -> None:
    seen: list[dict[str, Any]] = []
    say = ensemble_saying("Good", " evening")

    async def script(connection: Connection) -> None:
        seen.append(connection.fields)
        await say(connection)

    running = await start(script, entries=(ENSEMBLE, TENANT))
    async with client(running) as ai:
        answer = await ai.chat.completions.create(
            model=NAME, messages=HELLO, max_tokens=2, temperature=0, seed=-1, stop=["x"]
        )

    assert "Good evening" == answer.choices[0].message.content
    assert "length" == answer.choices[0].finish_reason
    assert answer.usage is not None
    assert (7, 2) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    fields = seen[0]
    assert "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n" == fields["text_input"]
    assert (2, 0.0, 2**64 - 1, ["x"]) == (
        fields["max_tokens"],
        fields["temperature"],
        fields["seed"],
        fields["stop_words"],
    )
    assert fields["stream"] is True


async def test_answers_say_what_made_them(start: Start) -> None:
    running = await start(saying("Hi"))
    async with client(running) as ai:
        raw = await ai.chat.completions.with_raw_response.create(model=NAME, messages=HELLO)

    told = {name: value for name, value in raw.headers.items() if name.startswith("x-headgate-")}
    assert {
        "x-headgate-model": "llama",
        "x-headgate-variant": "bf16",
        "x-headgate-revision": "0a1b2c3d",
        "x-headgate-region": "here",
        "x-headgate-mode": "Full",
        "x-headgate-stage": "call",
        "x-headgate-route": "direct",
    } == told
    assert raw.headers["x-request-id"].startswith(running.gateway.process)


async def test_models_are_listed_and_found(start: Start) -> None:
    running = await start()
    async with client(running) as ai:
        assert [NAME] == [model.id async for model in ai.models.list()]
        assert NAME == (await ai.models.retrieve(NAME)).id
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("gpt-x")


async def test_a_model_whose_name_holds_a_slash_is_found(start: Start) -> None:
    name = "meta/llama:3.1-8b"
    running = await start(entries=(model(cohort(), public_name=name), TENANT))
    async with client(running) as ai:
        assert name == (await ai.models.retrieve(name)).id


async def test_a_wrong_key_is_an_authentication_error(start: Start) -> None:
    running = await start()
    async with client(running, "hg_wrong") as ai:
        with pytest.raises(openai.AuthenticationError) as caught:
            await ai.models.list()
    assert "invalid_api_key" == caught.value.code


async def test_an_unknown_model_is_not_found(start: Start) -> None:
    running = await start()
    async with client(running) as ai:
        with pytest.raises(openai.NotFoundError) as caught:
            await ai.chat.completions.create(model="gpt-x", messages=HELLO)
    assert ("model_not_found", "model") == (caught.value.code, caught.value.param)


async def test_a_wrong_type_is_a_bad_request_that_names_the_parameter(start: Start) -> None:
    running = await start()
    messages: Any = [{"role": "user", "content": 5}]
    async with client(running) as ai:
        with pytest.raises(openai.BadRequestError) as caught:
            await ai.chat.completions.create(model=NAME, messages=messages)
    assert "messages[0].content" == caught.value.param


async def test_no_ready_pod_is_unavailable_and_says_when_to_come_back(start: Start) -> None:
    running = await start()
    async with client(running) as ai:
        with pytest.raises(openai.InternalServerError) as caught:
            await ai.chat.completions.create(model=NAME, messages=HELLO)
    assert (503, "model_not_ready") == (caught.value.status_code, caught.value.code)
    assert "5" == caught.value.response.headers["retry-after"]


async def test_a_stream_cut_after_the_first_byte_raises_in_the_client(start: Start) -> None:
    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.event(text_output="Good", finish_reason="None")
        connection.reset()

    running = await start(script)
    async with client(running) as ai:
        stream = await ai.chat.completions.create(model=NAME, messages=HELLO, stream=True)
        text = ""

        async def read() -> None:
            nonlocal text
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""

        with pytest.raises(openai.APIError) as caught:
            await read()
    assert ("Good", "upstream_lost") == (text, caught.value.code)


async def test_a_body_that_is_too_large_is_told_before_it_is_read(start: Start) -> None:
    running = await start()
    messages: Any = [{"role": "user", "content": "x" * (5 * 1024 * 1024)}]
    async with client(running) as ai:
        with pytest.raises(openai.APIStatusError) as caught:
            await ai.chat.completions.create(model=NAME, messages=messages)
    assert (413, "request_too_large") == (caught.value.status_code, caught.value.code)
