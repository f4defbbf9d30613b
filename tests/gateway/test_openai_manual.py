"""docs/openai.md tells every parameter that the gateway knows, and its manifests hold."""

import re

import pytest
import yaml

from headgate_api.kinds import KINDS
from headgate_cluster.files import TREE
from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.chat_request import ChatRequest
from headgate_gateway.edge.completion_request import CompletionRequest
from headgate_gateway.edge.embedding_request import EmbeddingRequest
from headgate_gateway.streaming.surfaces import SURFACES
from headgate_policy.chat import chat_template, check_template
from headgate_policy.tools import HERMES

MANUAL = (TREE / "docs" / "openai.md").read_text()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", ChatRequest),
        ("/v1/completions", CompletionRequest),
        ("/v1/embeddings", EmbeddingRequest),
    ],
)
def test_the_manual_tells_every_parameter_and_no_other(path: str, body: type[Asked]) -> None:
    section = MANUAL.split(f"\n## `{path}`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`([a-z_]+)`", row)]

    assert sorted(told) == sorted(set(told))
    assert set(body.__struct_fields__) == set(told)


def test_the_manual_tells_every_endpoint() -> None:
    assert set(SURFACES) == set(re.findall(r"^\| `POST (/v1/[a-z/]+)`", MANUAL, re.MULTILINE))


def test_the_manifests_in_the_manual_hold_and_the_template_teaches_tools() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", MANUAL, re.DOTALL)
    manifests = [yaml.safe_load(text) for text in blocks]
    for manifest in manifests:
        KINDS[manifest["kind"]].parse(manifest)
    source = manifests[0]["spec"]["model"]["chatTemplate"]["inline"]
    tool = {"type": "function", "function": {"name": "clock", "parameters": {}}}
    call = {"function": {"name": "clock", "arguments": {"zone": "UTC"}}}
    prompt = chat_template(source).prompt(
        [
            {"role": "user", "content": "What time is it?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "12:00"},
        ],
        tools=[tool],
    )

    assert check_template(source) is None
    assert HERMES == chat_template(source).dialect
    assert (
        "<|im_start|>system\nYou may call these functions, one JSON object between <tool_call> and "
        "</tool_call> for each call:\n"
        '{"type": "function", "function": {"name": "clock", "parameters": {}}}\n<|im_end|>\n'
        "<|im_start|>user\nWhat time is it?<|im_end|>\n"
        "<|im_start|>assistant\n\n<tool_call>\n"
        '{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>tool\n12:00<|im_end|>\n"
        "<|im_start|>assistant\n"
    ) == prompt
