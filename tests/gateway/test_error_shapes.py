"""OpenAI's own error shapes: status, type, code and param for each fault, as a client sees them.

Recorded from what OpenAI documents (error codes guide, API reference) and from what its API is
known to answer. Where ours differs on purpose, `instead` says what OpenAI has there.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from .conftest import KEY, NAME, Running
from .exchanges import Recorded
from .upstream import saying

Start = Callable[..., Awaitable[Running]]
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True, kw_only=True)
class Shape:
    fault: str
    status: int
    type: str
    code: str | None
    param: str | None = None
    path: str = CHAT
    method: str = "POST"
    key: str = KEY
    body: dict[str, Any] | bytes = field(default_factory=dict)  # over a good one
    instead: str = ""


REQUEST = "invalid_request_error"
SHAPES = (
    Shape(
        fault="a wrong key",
        key="hg_wrong",
        status=401,
        type="authentication_error",
        code="invalid_api_key",
        instead="type invalid_request_error; the SDK goes by the status",
    ),
    Shape(
        fault="a model that is not there, or not for this key",
        body={"model": "gpt-x"},
        status=404,
        type=REQUEST,
        code="model_not_found",
        param="model",
        instead="param null",
    ),
    Shape(
        fault="an unknown parameter",
        body={"top_k": 5},
        status=400,
        type=REQUEST,
        code="unknown_parameter",
        param="top_k",
    ),
    Shape(
        fault="an unknown field further in",
        body={"stream_options": {"x": 1}, "stream": True},
        status=400,
        type=REQUEST,
        code="unknown_parameter",
        param="stream_options.x",
    ),
    Shape(
        fault="a missing parameter",
        body={"messages": None},
        status=400,
        type=REQUEST,
        code="missing_required_parameter",
        param="messages",
    ),
    Shape(
        fault="a wrong type",
        body={"messages": [{"role": "user", "content": 5}]},
        status=400,
        type=REQUEST,
        code="invalid_value",
        param="messages[0].content",
        instead="code invalid_type",
    ),
    Shape(
        fault="a wrong word",
        body={"messages": [{"role": "boss", "content": "x"}]},
        status=400,
        type=REQUEST,
        code="invalid_value",
        param="messages[0].role",
    ),
    Shape(
        fault="a number out of range",
        body={"temperature": 3},
        status=400,
        type=REQUEST,
        code="invalid_value",
        param="temperature",
        instead="code decimal_above_max_value",
    ),
    Shape(
        fault="no messages",
        body={"messages": []},
        status=400,
        type=REQUEST,
        code="invalid_value",
        param="messages",
        instead="code empty_array",
    ),
    Shape(
        fault="a parameter that this model lacks",
        body={"reasoning_effort": "low"},
        status=400,
        type=REQUEST,
        code="unsupported_parameter",
        param="reasoning_effort",
    ),
    Shape(
        fault="a value that this model lacks",
        body={"n": 2},
        status=400,
        type=REQUEST,
        code="unsupported_value",
        param="n",
    ),
    Shape(
        fault="options of a stream without one",
        body={"stream_options": {"include_usage": True}},
        status=400,
        type=REQUEST,
        code="invalid_value",
        param="stream_options",
        instead="code null",
    ),
    Shape(
        fault="a choice among no tools",
        body={"tool_choice": "required"},
        status=400,
        type=REQUEST,
        code="invalid_value",
        param="tool_choice",
    ),
    Shape(
        fault="a schema that is none",
        body={
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "it", "schema": {"type": "thing"}},
            }
        },
        status=400,
        type=REQUEST,
        code="invalid_value",
        param="response_format",
        instead="code null",
    ),
    Shape(
        fault="a body that is not JSON",
        body=b"{",
        status=400,
        type=REQUEST,
        code="invalid_json",
        instead="code null",
    ),
    Shape(fault="an unknown URL", path="/v1/chats", status=404, type=REQUEST, code="unknown_url"),
    Shape(
        fault="a wrong method",
        method="GET",
        status=405,
        type=REQUEST,
        code="method_not_allowed",
    ),
    Shape(
        fault="a prompt of tokens",
        path="/v1/completions",
        body={"prompt": [[1, 2]]},
        status=400,
        type=REQUEST,
        code="unsupported_value",
        param="prompt",
        instead="an answer",
    ),
    Shape(
        fault="an empty text to embed",
        path="/v1/embeddings",
        body={"input": ""},
        status=400,
        type=REQUEST,
        code="invalid_value",
        param="input",
        instead="code null, param null",
    ),
    Shape(
        fault="a vector in another form",
        path="/v1/embeddings",
        body={"input": "a", "encoding_format": "int8"},
        status=400,
        type=REQUEST,
        code="invalid_value",
        param="encoding_format",
    ),
)
GOOD: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Once"},
    "/v1/embeddings": {"input": "a"},
}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.fault)
async def test_faults_are_told_in_openai_s_shape(start: Start, shape: Shape) -> None:
    running = await start(saying("Hi"))
    body = shape.body
    if isinstance(body, dict):
        good = {"model": NAME} | GOOD.get(shape.path, {"messages": HELLO})
        told = {name: value for name, value in (good | body).items() if value is not None}
        body = json.dumps(told).encode()
    exchange = Recorded(shape.method, shape.path, shape.key, body)
    await running.gateway.edge.handle(exchange)

    assert shape.status == exchange.status
    [answer] = exchange.events
    assert {"error"} == answer.keys()
    assert {"message", "type", "param", "code"} == answer["error"].keys()
    expected = (shape.type, shape.code, shape.param)
    assert expected == tuple(answer["error"][name] for name in ("type", "code", "param"))
    assert b"application/json" == exchange.headers[b"content-type"]
