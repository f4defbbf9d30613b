"""What a RoutingPolicy promises, in a cluster: deadlines, retries, hedges, stops and replays."""

import json
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from openai import OpenAI

from e2e.harness import KEY, MODEL, Cluster, load, until
from e2e.release import REGION, Release
from e2e.test_2_changes import PODS, ready, ready_pods, settled
from headgate_cluster import machines
from headgate_cluster.commands import run
from headgate_cluster.packages import ensure
from headgate_cluster.processes import Server, free_ports

pytestmark = pytest.mark.cluster
GOVERNED: Final = "governed"
HEDGED: Final = "hedged"
STORE: Final = "keys-store"
GATEWAYS: Final = "headgate.dev/part=gateway"


def policy(name: str, **rules: Any) -> dict[str, Any]:
    """A RoutingPolicy that claims its own name, and leads to the one model."""
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "RoutingPolicy",
        "metadata": {"name": name},
        "spec": {
            "models": [name],
            "routes": [{"name": "all", "targets": [{"modelRef": {"name": MODEL}}]}],
            "deadlines": {"total": "30s", "stream": "60s", "firstSegment": "20s"},
            **rules,
        },
    }


@pytest.fixture(scope="module", autouse=True)
def policies(cluster: Cluster) -> Iterator[None]:
    cluster.apply(policy(GOVERNED, retries={"maxAttempts": 2}))
    cluster.apply(policy(HEDGED, hedging={"after": "500ms", "maxPercent": 20}))
    for name in (GOVERNED, HEDGED):
        until(lambda name=name: answers(cluster, name), 30, f"{name} is served")  # type: ignore[misc]
    yield
    for name in (GOVERNED, HEDGED):
        cluster.kubectl("delete", "routingpolicy", name)


def answers(cluster: Cluster, model: str) -> bool:
    """Whether every gateway serves this name."""
    for address in addresses(cluster, GATEWAYS):
        try:
            ask(client(address), model, "[[sim: tokens 2]]")
        except openai.NotFoundError:
            return False
    return True


def addresses(cluster: Cluster, selector: str) -> list[str]:
    return [pod["status"]["podIP"] for pod in cluster.pods(selector)]


def client(address: str) -> OpenAI:
    """A client of one gateway."""
    return OpenAI(base_url=f"http://{address}:8080/v1", api_key=KEY, max_retries=0, timeout=60)


def ask(ai: OpenAI, model: str, text: str, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return ai.chat.completions.create(model=model, messages=messages, **more)


def started(cluster: Cluster, model: str, text: str, milliseconds: str) -> Any:
    """Begin a stream with a deadline.

    Where the cases before this one have kept the model busy, a gateway refuses a short deadline: it
    is less than such calls have taken. It forgets that within a minute.
    """
    streams: list[Any] = []

    def begins() -> bool:
        limit = {"x-request-timeout-ms": milliseconds}
        try:
            streams.append(ask(cluster.openai(), model, text, stream=True, extra_headers=limit))
        except openai.InternalServerError as refused:
            if refused.code != "deadline_exceeded":
                raise
        return bool(streams)

    until(begins, 90, "a deadline of two seconds is enough to begin")
    return streams[0]


def metric(address: str, port: int, name: str) -> Counter[str]:
    """The series of one metric, by their labels."""
    with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return Counter({labels: int(float(value)) for labels, value in found})


def in_work(cluster: Cluster) -> list[int]:
    """How many requests each model server works on, by its own metrics."""
    label = 'request_type="scheduled"'
    family = "nv_trt_llm_request_metrics"
    return [
        sum(count for labels, count in metric(each, 8002, family).items() if label in labels)
        for each in addresses(cluster, PODS)
    ]


def counted(cluster: Cluster, name: str, label: str) -> int:
    """A counter of all gateways together."""
    found = (metric(each, 9090, name) for each in addresses(cluster, GATEWAYS))
    return sum(count for one in found for labels, count in one.items() if label in labels)


def asked_again(cluster: Cluster) -> int:
    """Tries that followed a lost connection.

    One that had rested and breaks soon is called stale: the server may have closed it before. Then
    the same pod is asked once more, and the next one where it refuses.
    """
    retried = "headgate_gateway_retries_total"
    return sum(counted(cluster, retried, reason) for reason in ("upstream_lost", "stale"))


def container(release: Release, pod: str, *command: str) -> None:
    """Let containerd do something to the pod's one container, behind everybody's back."""
    assert release.layout, "needs the local cluster, whose containerd it asks"
    status = release.cluster.get("pod", pod)["status"]["containerStatuses"][0]
    name = status["containerID"].removeprefix("containerd://")
    pid = machines.read_pid(release.layout.machine(REGION))
    assert pid
    run(*machines.inside(pid, "ctr", "-n", "k8s.io", "tasks", *command, name))


def test_a_deadline_ends_a_stream_where_it_may_end(cluster: Cluster) -> None:
    """A route's stream is held for whole sentences: its end is no failure."""
    with started(cluster, GOVERNED, "[[sim: tokens 500; slow 50ms]]", "2000") as stream:
        chunks = [chunk for chunk in stream if chunk.choices]

    assert "length" == chunks[-1].choices[0].finish_reason
    assert {"stopped": "deadline_exceeded"} == chunks[-1].model_extra["headgate"]
    until(lambda: in_work(cluster) == [0, 0], 5, "no slot is taken")


def test_a_deadline_ends_a_stream_of_words_with_an_error_event(cluster: Cluster) -> None:
    """Nobody knows where a model's own stream may end."""
    with started(cluster, MODEL, "[[sim: tokens 500; slow 50ms]]", "2000") as stream:
        assert next(chunk for chunk in stream if chunk.choices[0].delta.content)
        with pytest.raises(openai.APIError) as caught:
            list(stream)

    assert "deadline_exceeded" == caught.value.code
    until(lambda: in_work(cluster) == [0, 0], 5, "no slot is taken")


def test_too_short_a_deadline_is_refused_in_time(cluster: Cluster) -> None:
    limit = {"x-request-timeout-ms": "1000"}
    with pytest.raises(openai.APIStatusError) as caught:
        ask(cluster.openai(), GOVERNED, "[[sim: wait 30s]]", extra_headers=limit)

    assert (504, "deadline_exceeded") == (caught.value.status_code, caught.value.code)
    assert "false" == caught.value.response.headers["x-should-retry"]
    until(lambda: in_work(cluster) == [0, 0], 5, "no slot is taken")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot_before_the_first_token(
    cluster: Cluster, stream: bool
) -> None:
    messages = [{"role": "user", "content": "[[sim: wait 30s]]"}]
    body = {"model": GOVERNED, "messages": messages, "stream": stream}
    request = urllib.request.Request(  # noqa: S310 - of our own cluster
        f"{cluster.url}/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(urllib.request.urlopen, request, timeout=2)
        until(lambda: sum(in_work(cluster)) == 1, 2, "a slot is taken")
        with pytest.raises(TimeoutError):
            asked.result()

    until(lambda: in_work(cluster) == [0, 0], 5, "no slot is taken")


def test_requests_of_a_killed_pod_are_answered_by_another(
    release: Release, cluster: Cluster
) -> None:
    before = asked_again(cluster)
    (gateway, *_) = addresses(cluster, GATEWAYS)
    with ThreadPoolExecutor(4) as threads:
        asked: list[Future[Any]] = [
            threads.submit(ask, client(gateway), GOVERNED, "[[sim: wait 4s; tokens 5]]")
            for _ in range(4)
        ]
        until(lambda: in_work(cluster) == [2, 2], 4, "both pods work")
        victim = ready_pods(cluster)[0]
        container(release, victim, "kill", "--signal", "SIGKILL")
        told = [each.result() for each in asked]

    assert [5] * 4 == [answer.usage.completion_tokens for answer in told]
    assert 2 <= asked_again(cluster) - before <= 4  # of both requests, once or twice
    settled(cluster, 2)


def test_a_pod_that_hangs_costs_a_hedge_and_no_answer(release: Release, cluster: Cluster) -> None:
    (gateway, *_) = addresses(cluster, GATEWAYS)
    for _ in range(20):  # earns four
        ask(client(gateway), HEDGED, "[[sim: tokens 2]]")
    won = "headgate_gateway_hedges_total"
    before = counted(cluster, won, "won")
    victim = ready_pods(cluster)[0]
    container(release, victim, "pause")
    try:
        told = [ask(client(gateway), HEDGED, "[[sim: tokens 2]]") for _ in range(4)]
    finally:
        container(release, victim, "resume")

    assert [2] * 4 == [answer.usage.completion_tokens for answer in told]
    assert 1 <= counted(cluster, won, "won") - before <= 4
    settled(cluster, 2)


@pytest.fixture(scope="module")
def valkey(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on this machine, as pods reach it."""
    assert release.layout, "needs the local cluster, whose pods reach this machine"
    ensure({"redis-server": "redis-server"})
    (port,) = free_ports(1)
    host = release.layout.host_ip.partition("/")[0]
    options = ["--bind", host, "--port", str(port), "--save", "", "--protected-mode", "no"]
    folder: Path = tmp_path_factory.mktemp("valkey")
    server = Server.start("valkey", "redis-server", *options, folder=folder)
    yield f"redis://{host}:{port}"
    server.stop()
    release.cluster.kubectl("delete", "secret", STORE, "--ignore-not-found")


def test_gateways_and_pods_are_replaced_under_streams(
    release: Release, cluster: Cluster, valkey: str
) -> None:
    """Gateways get a store for Idempotency-Keys, and a model server is deleted: no stream fails."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": STORE},
            "stringData": {"url": valkey},
        }
    )
    settings = {
        "gateway.idempotency.store": "valkey",
        "gateway.idempotency.urlSecret.name": STORE,
    }
    # The client's default: a kept connection may be closed in the moment in which it is used again.
    with load(cluster, model=GOVERNED, retries=2) as streams:
        cluster.kubectl("delete", "pod", ready_pods(cluster)[0], "--wait=false")
        release.install(**settings)
        streams.more(4)
    assert {} == dict(streams.failures)
    settled(cluster, 2)


def test_an_answer_is_replayed_after_all_gateways_were_killed(cluster: Cluster) -> None:
    told = [sent_again(each) for each in addresses(cluster, GATEWAYS)]
    before = {pod["metadata"]["uid"] for pod in cluster.pods(GATEWAYS)}
    cluster.kubectl("delete", "pods", "-l", GATEWAYS, "--grace-period=0", "--force")

    def others() -> bool:
        pods = [pod for pod in cluster.pods(GATEWAYS) if ready(pod)]
        return len(pods) == 2 and before.isdisjoint(pod["metadata"]["uid"] for pod in pods)

    until(others, 60, "two other gateways")
    told += [sent_again(each) for each in addresses(cluster, GATEWAYS)]

    assert [None, "true", "true", "true"] == [replayed for replayed, _ in told]
    assert 1 == len({answer for _, answer in told})


def sent_again(address: str) -> tuple[str | None, str]:
    """Send the same request with the same key: whether the answer is a replay, and its id."""
    messages: Any = [{"role": "user", "content": "[[sim: tokens 3]]"}]
    answer = client(address).chat.completions.with_raw_response.create(
        model=GOVERNED, messages=messages, extra_headers={"Idempotency-Key": "order-1"}
    )
    return answer.headers.get("idempotency-replayed"), json.loads(answer.content)["id"]
