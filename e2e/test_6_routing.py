"""What stands between a client's `model` and the words it reads, in a cluster."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import openai
import pytest

from e2e import sdk_routing
from e2e.harness import KEY, MODEL, NAMESPACE, ROOT, Cluster, until
from e2e.release import Release
from e2e.test_2_changes import ready_pods, settled
from e2e.test_5_gateway import (
    GATEWAYS,
    addresses,
    answers,
    ask,
    client,
    container,
    in_work,
    metric,
)
from headgate_cluster.sdks import older_openai

pytestmark = pytest.mark.cluster
SMALL: Final = sdk_routing.SMALL
PODS: Final = f"headgate.dev/model={SMALL}"


def leads(name: str, model: str, **more: Any) -> dict[str, Any]:
    """A route to one model."""
    return {"name": name, "targets": [{"modelRef": {"name": model}}], **more}


SPECS: Final[dict[str, dict[str, Any]]] = {
    "assistant": {
        "architecture": "Router",
        "matchHeaders": ["x-feature"],
        "routes": [
            leads("tools", MODEL, when="request.hasTools"),
            leads("long", MODEL, when="request.inputTokens > 500"),
            leads(
                "feature",
                MODEL,
                when="'x-feature' in request.headers && request.headers['x-feature'] == 'big'",
            ),
            leads("fast", SMALL, streaming={"maxHold": "10s"}),
        ],
    },
    "split": {
        "routes": [
            {
                "name": "all",
                "targets": [{"modelRef": {"name": MODEL}}, {"modelRef": {"name": SMALL}}],
            }
        ]
    },
    "forms": {
        "routes": [
            leads(
                "fast",
                SMALL,
                acceptWhen="answer.schemaValid",
                fallback=[{"route": "strong", "triggers": ["Rejected"]}],
            ),
            leads("strong", MODEL, role="Fallback"),
        ]
    },
    "extract": {
        "architecture": "Cascade",
        "routes": [
            leads(
                "small",
                SMALL,
                acceptWhen="answer.citations.total > 0"
                " && answer.citations.resolved == answer.citations.total",
            ),
            leads("large", MODEL),
        ],
    },
    "buffered": {"routes": [leads("all", MODEL, streaming={"mode": "Buffered"})]},
    "hasty": {
        "routes": [leads("all", MODEL)],
        "deadlines": {"total": "3s", "stream": "4s", "firstSegment": "3s", "reserve": "1s"},
    },
    "narrow": {"routes": [leads("all", MODEL, context={"maxInputTokens": 300})]},
    "forgetful": {
        "routes": [
            leads(
                "all",
                MODEL,
                context={"maxInputTokens": 400, "onOverflow": "Truncate", "keepTurns": 4},
            )
        ]
    },
    "assistant-large": {"routes": [leads("all", MODEL)]},
    "going-on": {"routes": [leads("all", MODEL, streaming={"onUpstreamLoss": "Continue"})]},
    "calm": {
        "architecture": "Router",
        "routes": [
            leads("busy", MODEL, when="region.load > 0.3", streaming={"mode": "Buffered"}),
            leads("idle", MODEL),
        ],
    },
}


@pytest.fixture(scope="module", autouse=True)
def policies(cluster: Cluster) -> Iterator[None]:
    cluster.apply(
        {
            "apiVersion": "headgate.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": SMALL},
            "spec": {"variants": [{"name": SMALL, "source": {"uri": "hf://example/small@main"}}]},
        }
    )
    cluster.kubectl("wait", "mdep", SMALL, "--for=condition=Ready", "--timeout=120s")
    for name, spec in SPECS.items():
        cluster.apply(
            {
                "apiVersion": "headgate.dev/v1alpha1",
                "kind": "RoutingPolicy",
                "metadata": {"name": name},
                "spec": {"models": [name], **spec},
            }
        )
    for name in SPECS:
        cluster.kubectl("wait", "rpol", name, "--for=condition=Ready", "--timeout=60s")
        until(lambda name=name: answers(cluster, name), 30, f"{name} is served")  # type: ignore[misc]
    yield
    cluster.kubectl("delete", "rpol", *SPECS)
    cluster.kubectl("delete", "mdep", SMALL)
    cluster.kubectl("wait", "pod", "-l", PODS, "--for=delete", "--timeout=120s")


@pytest.mark.parametrize("major", ["2", "3"])
def test_the_sdk_sees_what_the_policies_promise(cluster: Cluster, major: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if major == "2":
        environment["PYTHONPATH"] += f":{older_openai()}"
    done = subprocess.run(
        [sys.executable, sdk_routing.__file__, cluster.url, KEY],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"{major} {len(sdk_routing.CHECKS)}" == done.stdout.strip(), done.stderr


@contextmanager
def broken(release: Release, cluster: Cluster, model: str) -> Iterator[Any]:
    """What is left of a stream whose pod is killed once it has begun."""
    said = "[[sim: tokens 60; slow 50ms]]"
    stream = ask(client(addresses(cluster, GATEWAYS)[0]), model, said, stream=True)
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    (pod,) = (pod for pod in ready_pods(cluster) if works(cluster, pod))
    before = restarts(cluster, pod)
    container(release, pod, "kill", "--signal", "SIGKILL")
    yield stream
    until(lambda: restarts(cluster, pod) > before, 60, f"{pod} is started again")
    settled(cluster, 2)


def restarts(cluster: Cluster, pod: str) -> int:
    (status,) = cluster.get("pod", pod)["status"]["containerStatuses"]
    count: int = status["restartCount"]
    return count


def works(cluster: Cluster, pod: str) -> bool:
    """Whether a pod of the model has a request in work, by its own metrics."""
    family, label = "nv_trt_llm_request_metrics", 'request_type="scheduled"'
    found = metric(cluster.get("pod", pod)["status"]["podIP"], 8002, family)
    return any(count for labels, count in found.items() if label in labels)


def test_a_broken_stream_ends_with_an_error_that_says_so(
    release: Release, cluster: Cluster
) -> None:
    with (
        broken(release, cluster, "assistant-large") as rest,
        pytest.raises(openai.APIError) as caught,
    ):
        list(rest)

    assert "upstream_lost" == caught.value.code
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["partial_output"] is True


def test_a_broken_stream_goes_on_at_another_pod(release: Release, cluster: Cluster) -> None:
    with broken(release, cluster, "going-on") as rest:
        chunks = [chunk for chunk in rest if chunk.choices]

    assert "stop" == chunks[-1].choices[0].finish_reason


def test_streams_are_given_in_one_go_while_the_gateways_are_busy(
    release: Release, cluster: Cluster
) -> None:
    """The route's condition is about the load; clients that stream get valid streams anyway."""
    release.install(**{"gateway.env": {"MAX_REQUESTS": "8"}})
    address = addresses(cluster, GATEWAYS)[0]
    with ThreadPoolExecutor(5) as threads:
        calm = told(address)
        kept = [threads.submit(ask, client(address), MODEL, "[[sim: wait 6s]]") for _ in range(5)]
        until(lambda: sum(in_work(cluster)) >= 5, 5, "the gateway is busy")
        busy = told(address)
        for each in kept:
            each.result()
    release.install()

    assert ("calm/idle", "One. Two. Three.") == calm
    assert ("calm/busy", "One. Two. Three.") == busy


def told(address: str) -> tuple[str, str]:
    """The route of a stream, and all that it says."""
    said = '[[sim: say "One. Two. Three."; slow 30ms]]'
    answer = sdk_routing.ask(client(address), "calm", said, stream=True)
    pieces, reason = sdk_routing.streamed(answer)
    assert "stop" == reason
    return answer.headers["x-headgate-route"], "".join(pieces)


def test_an_answer_is_explained(cluster: Cluster) -> None:
    answer = sdk_routing.ask(cluster.openai(), "assistant", "Hi [[sim: tokens 1]]")
    explain = [sys.executable, "-m", "headgate_cli.main", "explain", "-n", NAMESPACE]
    done = subprocess.run(
        [*explain, answer.headers["x-request-id"]],
        env={**os.environ, "KUBECONFIG": cluster.kubeconfig},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "assistant/fast" in done.stdout
    assert "request.hasTools" in done.stdout
