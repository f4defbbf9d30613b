"""What OpenAI's SDK must make of the gateway's answers. It runs in a process of its own, so that
each major of the SDK can be the judge: `sdk_contract.py BASE_URL API_KEY MODEL`.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

HELLO: Any = [{"role": "user", "content": "Hello"}]
CLOCK: Any = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "Tells the time.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}


class Answer(BaseModel):
    n: int


def told(text: str) -> Any:
    return [{"role": "user", "content": text}]


def plain(ai: OpenAI, model: str) -> None:
    answer = ai.chat.completions.create(model=model, messages=HELLO, max_completion_tokens=9)
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Good day.", "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 2
    assert answer.model == model


def stream(ai: OpenAI, model: str) -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        ai.chat.completions.create(model=model, messages=HELLO, stream=True, stream_options=options)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Good day."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None


def stream_helper(ai: OpenAI, model: str) -> None:
    with ai.chat.completions.stream(model=model, messages=HELLO) as events:
        kinds = {event.type for event in events}
        assert "content.delta" in kinds
        assert events.get_final_completion().choices[0].message.content == "Good day."


def tools(ai: OpenAI, model: str) -> None:
    asked: Any = {"model": model, "messages": told("[call]"), "tools": [CLOCK]}
    choice = ai.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"zone": "UTC"}

    result = {"role": "tool", "tool_call_id": call.id, "content": "12:00"}
    asked["messages"] = [*told("What time is it?"), choice.message, result]
    assert ai.chat.completions.create(**asked).choices[0].message.content == "Good day."


def tools_streamed(ai: OpenAI, model: str) -> None:
    asked: Any = {"model": model, "messages": told("[call]"), "tools": [CLOCK]}
    with ai.chat.completions.stream(**asked) as events:
        message = events.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.name == "clock"


def structured(ai: OpenAI, model: str) -> None:
    asked: Any = {"model": model, "messages": told("[json]"), "response_format": Answer}
    assert ai.chat.completions.parse(**asked).choices[0].message.parsed == Answer(n=5)
    with ai.chat.completions.stream(**asked) as events:
        assert events.get_final_completion().choices[0].message.parsed == Answer(n=5)
    asked["messages"] = HELLO
    refused(openai.InternalServerError, 502, "invalid_output", ai.chat.completions.parse, **asked)


def completions(ai: OpenAI, model: str) -> None:
    answer = ai.completions.create(model=model, prompt="Once", max_tokens=9)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Good day.", "stop")
    chunks = list(ai.completions.create(model=model, prompt=["Once"], stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Good day."
    assert chunks[-1].choices[0].finish_reason == "stop"


def embeddings(ai: OpenAI, model: str) -> None:
    packed = ai.embeddings.create(model=model, input=["a", "b"])
    assert [row.embedding for row in packed.data] == [[3.0, 4.0, 0.0], [0.5, 0.25, 1.0]]
    assert [row.index for row in packed.data] == [0, 1]
    assert packed.usage.prompt_tokens == 2
    floats = ai.embeddings.create(model=model, input=["a", "b"], encoding_format="float")
    assert floats.data == packed.data
    short = ai.embeddings.create(model=model, input="a", dimensions=2)
    assert short.data[0].embedding == pytest.approx([0.6, 0.8])


def models(ai: OpenAI, model: str) -> None:
    assert [found.id for found in ai.models.list()] == [model]
    assert ai.models.retrieve(model).owned_by == "headgate"


def labels(ai: OpenAI, model: str) -> None:
    raw = ai.chat.completions.with_raw_response.create(model=model, messages=HELLO)
    assert raw.headers["x-request-id"]
    assert raw.parse().choices[0].message.content == "Good day."


def errors(ai: OpenAI, model: str) -> None:
    chat, wrong = ai.chat.completions.create, ai.with_options(api_key="hg_wrong")
    create: Any = {"model": model, "messages": HELLO}
    refused(openai.AuthenticationError, 401, "invalid_api_key", wrong.models.list)
    refused(openai.NotFoundError, 404, "model_not_found", chat, **create | {"model": "gpt-x"})
    refused(openai.NotFoundError, 404, "model_not_found", ai.models.retrieve, "gpt-x")
    more = {"extra_body": {"top_k": 5}}
    refused(openai.BadRequestError, 400, "unknown_parameter", chat, **create | more)
    refused(openai.BadRequestError, 400, "unsupported_value", chat, **create | {"n": 2})
    busy = create | {"messages": told("[busy]")}
    refused(openai.InternalServerError, 503, "upstream_overloaded", chat, **busy)


def broken_stream(ai: OpenAI, model: str) -> None:
    found = ai.chat.completions.create(model=model, messages=told("[cut]"), stream=True)
    with pytest.raises(openai.APIError) as caught:
        list(found)
    assert caught.value.code == "upstream_lost"


def refused(
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    call: Callable[..., Any],
    *args: Any,
    **more: Any,
) -> None:
    with pytest.raises(kind) as caught:
        call(*args, **more)
    assert (caught.value.status_code, caught.value.code) == (status, code)


CHECKS: tuple[Callable[[OpenAI, str], None], ...] = (
    *(plain, stream, stream_helper, tools, tools_streamed, structured, completions, embeddings),
    *(models, labels, errors, broken_stream),
)


def main(url: str, key: str, model: str) -> None:
    with OpenAI(base_url=url, api_key=key, max_retries=0) as ai:
        for check in CHECKS:
            check(ai, model)
    print(openai.__version__.partition(".")[0], len(CHECKS))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main(*sys.argv[1:])
