"""The main job: a release, three manifests, and any OpenAI client."""

import asyncio
import hashlib
import json

import openai
import pytest

from e2e.harness import KEY, MODEL, Cluster, until
from e2e.release import examples

pytestmark = pytest.mark.cluster
ASK = [{"role": "user", "content": "Say something about rivers."}]


def test_everything_of_the_quickstart_is_ready(cluster: Cluster) -> None:
    """The release waited with `kubectl wait`, as a user would."""
    assert cluster.condition("mdep", MODEL, "Ready").startswith("True ProbeAnswered")
    assert cluster.condition("tq", "demo", "Programmed").startswith("True AllGateways")


def test_kubectl_get_tells_an_operator_what_matters(cluster: Cluster) -> None:
    header, line = cluster.kubectl("get", "mdep", MODEL).splitlines()

    assert ["NAME", "READY", "REASON", "MODEL", "REPLICAS", "UP"] == header.split()[:6]
    assert [MODEL, "True", "ProbeAnswered", MODEL] == line.split()[:4]


def test_a_plain_answer(cluster: Cluster) -> None:
    with cluster.openai() as client:
        answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=16, seed=7)
        again = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=16, seed=7)

    assert answer.usage is not None
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == answer.usage.total_tokens
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.choices[0].message.content == again.choices[0].message.content


def test_a_stream_is_the_plain_answer_in_pieces(cluster: Cluster) -> None:
    with cluster.openai() as client:
        plain = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=24, seed=7)
        chunks = list(
            client.chat.completions.create(
                model=MODEL,
                messages=ASK,
                max_tokens=24,
                seed=7,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)

    assert plain.choices[0].message.content == text
    assert plain.usage == chunks[-1].usage
    assert len(chunks) > 4


def test_the_async_client_runs_streams_side_by_side(cluster: Cluster) -> None:
    async def one(client: openai.AsyncOpenAI) -> str | None:
        stream = await client.chat.completions.create(
            model=MODEL, messages=ASK, max_tokens=16, stream=True
        )
        finish = None
        async for chunk in stream:
            finish = chunk.choices[0].finish_reason
        return finish

    async def all_of_them() -> set[str | None]:
        async with cluster.async_openai() as client:
            return set(await asyncio.gather(*(one(client) for _ in range(8))))

    assert asyncio.run(all_of_them()) <= {"stop", "length"}


def test_the_models_list_names_what_the_tenant_may_use(cluster: Cluster) -> None:
    with cluster.openai() as client:
        assert [MODEL] == [model.id for model in client.models.list()]


def test_errors_are_the_clients_own_classes(cluster: Cluster) -> None:
    with pytest.raises(openai.AuthenticationError), cluster.openai("wrong") as client:
        client.models.list()
    with cluster.openai() as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="gpt-0", messages=ASK)
        with pytest.raises(openai.BadRequestError) as wrong:
            client.chat.completions.create(model=MODEL, messages=ASK, temperature=9)
    assert "model_not_found" == unknown.value.code
    assert "temperature" == wrong.value.param


def test_the_key_itself_stands_nowhere_in_the_snapshot(cluster: Cluster) -> None:
    maps = json.dumps(cluster.all("configmaps", "headgate.dev/snapshot"))

    assert KEY not in maps
    assert hashlib.sha256(KEY.encode()).hexdigest() in maps


def test_a_routing_policy_gives_the_model_another_name(cluster: Cluster) -> None:
    policy = {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "RoutingPolicy",
        "metadata": {"name": "assistant"},
        "spec": {
            "models": ["assistant"],
            "routes": [{"name": "only", "targets": [{"modelRef": {"name": MODEL}}]}],
        },
    }
    cluster.apply(policy)
    cluster.kubectl("wait", "rpol", "assistant", "--for=condition=Ready", "--timeout=30s")
    with cluster.openai() as client:
        answer = client.chat.completions.create(model="assistant", messages=ASK, max_tokens=4)
        assert "assistant" == answer.model
    cluster.kubectl("delete", "rpol", "assistant")
    with cluster.openai() as client:
        until(lambda: ["assistant"] not in [[m.id] for m in client.models.list()], 10, "name gone")
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="assistant", messages=ASK)


def test_a_safety_policy_refuses_what_its_rule_matches(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", examples("safety"))
    names = cluster.kubectl("get", "spol", "-o", "name").split()
    for name in names:
        cluster.kubectl("wait", name, "--for=condition=Ready", "--timeout=30s")
        rule = json.loads(cluster.kubectl("get", name, "-o", "json"))["spec"]["rules"][0]
        ask = [{"role": "user", "content": rule["examples"]["positive"][0]}]
        with cluster.openai() as client, pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=MODEL, messages=ask)
        cluster.kubectl("delete", name)
    assert names
