"""Any body is a request or a refusal, on every endpoint, and never our own failure."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate_gateway.calls.forms import wanted
from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.chat_request import ChatRequest
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.streaming.surfaces import SURFACES
from headgate_policy.tools import HERMES

from .test_openai_upstream import CLOCK

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
NAMES = ChatRequest.__struct_fields__
TOOLS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {"name": st.sampled_from(["a", "b", "c"])},
                optional={"parameters": ANYTHING, "strict": st.booleans()},
            ),
        }
    ),
    max_size=3,
)
FORMATS = st.sampled_from([{"type": "json_object"}, {"type": "text"}]) | st.fixed_dictionaries(
    {
        "type": st.just("json_schema"),
        "json_schema": st.fixed_dictionaries({"name": st.just("it"), "schema": ANYTHING}),
    }
)


@pytest.mark.parametrize("path", SURFACES)
@given(data=st.binary(max_size=64) | ANYTHING.map(lambda told: json.dumps(told).encode()))
def test_any_bytes_are_a_request_or_a_refusal(path: str, data: bytes) -> None:
    assert isinstance(SURFACES[path].read(data), Asked | Refusal)


@pytest.mark.parametrize("path", SURFACES)
@given(more=st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3))
def test_any_value_of_any_parameter_is_taken_or_refused_by_name(
    path: str, more: dict[str, Any]
) -> None:
    good = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    asked = SURFACES[path].read(json.dumps(good | more).encode())
    if isinstance(asked, Refusal):
        assert 400 == asked.status
        assert asked.param is not None or asked.code in (Code.INVALID_JSON, Code.INVALID_VALUE)
    else:
        assert isinstance(asked.texts, list)


@given(tools=TOOLS, wants=FORMATS, choice=st.sampled_from(["none", "auto", "required"]))
def test_any_schema_of_a_client_is_used_or_refused(
    tools: list[Any], wants: dict[str, Any], choice: str
) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "tools": [CLOCK, *tools],
        "tool_choice": choice,
        "response_format": wants,
    }
    chat = SURFACES["/v1/chat/completions"].read(json.dumps(body).encode())
    if isinstance(chat, ChatRequest):
        found = wanted(chat, HERMES, in_text=True)
        assert not isinstance(found, Refusal) or 400 == found.status
