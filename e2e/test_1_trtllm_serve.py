"""A model behind trtllm-serve beside one behind Triton: the same clients, and nothing to tell."""

import json
from collections.abc import Iterator

import pytest

from e2e.harness import Cluster
from e2e.release import examples

pytestmark = pytest.mark.cluster
NAME = "qwen-3-8b"
PODS = f"headgate.dev/model={NAME}"
ASK = [{"role": "user", "content": "Say something about rivers."}]
FORECAST = {
    "type": "function",
    "function": {
        "name": "forecast",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def model(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("apply", "-f", examples("trtllm-serve"))
    cluster.kubectl("wait", "mdep", NAME, "--for=condition=Ready", "--timeout=120s")
    yield NAME
    cluster.kubectl("delete", "-f", examples("trtllm-serve"))
    cluster.kubectl("wait", "pod", "-l", PODS, "--for=delete", "--timeout=120s")


def test_it_is_ready_once_a_pod_has_said_a_token(cluster: Cluster, model: str) -> None:
    assert cluster.condition("mdep", model, "Ready").startswith("True ProbeAnswered")
    (pod,) = cluster.pods(PODS)
    assert "trtllm-serve" == pod["metadata"]["labels"]["headgate.dev/runtime"]
    assert ["trtllm-serve"] == pod["spec"]["containers"][0]["command"]


def test_a_stream_is_the_plain_answer_in_pieces(cluster: Cluster, model: str) -> None:
    with cluster.openai() as client:
        plain = client.chat.completions.create(model=model, messages=ASK, max_tokens=24, seed=7)
        stream = client.chat.completions.create(
            model=model, messages=ASK, max_tokens=24, seed=7, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert model == plain.model
    assert plain.usage is not None
    assert 24 == plain.usage.completion_tokens
    assert plain.choices[0].message.content == text


def test_a_tool_is_called(cluster: Cluster, model: str) -> None:
    call = {"name": "forecast", "arguments": {"town": "Oslo"}}
    content = f"Look. [[sim: tool_call {json.dumps(call)}]]"
    with cluster.openai() as client:
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": content}], tools=[FORECAST]
        )

    (called,) = answer.choices[0].message.tool_calls or ()
    assert ("forecast", {"town": "Oslo"}) == (
        called.function.name,
        json.loads(called.function.arguments),
    )
    assert "tool_calls" == answer.choices[0].finish_reason


def test_an_answer_fits_the_schema_that_was_asked_for(cluster: Cluster, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"boats": {"type": "integer", "minimum": 2}},
        "required": ["boats"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    with cluster.openai() as client:
        answer = client.chat.completions.create(model=model, messages=ASK, response_format=wanted)

    assert {"boats": 2} == json.loads(answer.choices[0].message.content or "")


def test_its_queue_is_measured(cluster: Cluster, model: str) -> None:
    (pod,) = cluster.pods(PODS)
    script = (
        "import urllib.request as r; "
        "print(r.urlopen('http://127.0.0.1:8000/prometheus/metrics').read().decode())"
    )
    told = cluster.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", script)
    assert "trtllm_num_requests_waiting{" in told
