"""How many tokens a request is estimated to bring."""

import msgspec
import pytest

from headgate_gateway.context.counting import estimate_input
from headgate_gateway.edge.asked import Asked
from headgate_gateway.refusals import Refusal
from headgate_gateway.streaming.surfaces import SURFACES
from headgate_policy.tokens import PER_MESSAGE, SAMPLED, estimate, estimate_soon

TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": '{"at": "noon"}'}}


def asked(path: str, **fields: object) -> Asked:
    read = SURFACES[path].read(msgspec.json.encode({"model": "m"} | fields))
    assert not isinstance(read, Refusal), read
    return read


def chat(*messages: dict[str, object], **fields: object) -> Asked:
    return asked("/v1/chat/completions", messages=messages, **fields)


def test_a_message_costs_its_text_and_its_marks() -> None:
    expected = estimate("When is high tide?") + PER_MESSAGE
    assert expected == estimate_input(chat({"role": "user", "content": "When is high tide?"}))


def test_of_a_long_message_samples_are_looked_at() -> None:
    text = SAMPLED * "Is it 5? "
    expected = estimate_soon(text) + PER_MESSAGE
    assert expected == estimate_input(chat({"role": "user", "content": text}))
    assert expected != estimate(text) + PER_MESSAGE


def test_calls_of_tools_are_read_too() -> None:
    plain = estimate_input(chat({"role": "assistant", "content": ""}))
    calls = estimate_input(chat({"role": "assistant", "content": "", "tool_calls": [CALL]}))
    assert plain + estimate('tide{"at": "noon"}') == calls


@pytest.mark.parametrize(("choice", "read"), [("auto", True), ("none", False)])
def test_tools_are_read_where_they_may_be_called(choice: str, read: bool) -> None:
    message: dict[str, object] = {"role": "user", "content": "Hello"}
    more = estimate_input(chat(message, tools=[TOOL], tool_choice=choice))
    assert (more > estimate_input(chat(message))) is read


def test_a_completion_and_an_embedding_cost_their_texts() -> None:
    assert estimate("Once upon") == estimate_input(asked("/v1/completions", prompt="Once upon"))
    inputs = ["one text", " another"]
    assert estimate("".join(inputs)) == estimate_input(asked("/v1/embeddings", input=inputs))
