"""What stands between a client's `model` and the words it reads, in a cluster."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

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
SMALL, TWINS = sdk_routing.SMALL, sdk_routing.TWINS
SOURCE: Final = {"uri": "hf://example/small@main"}
VARIANTS: Final[dict[str, list[dict[str, Any]]]] = {
    SMALL: [{"name": SMALL, "source": SOURCE}],
    TWINS: [
        {"name": "plain", "source": SOURCE, "replicas": 1},
        {"name": "guessing", "source": SOURCE, "replicas": 1, "speculative": {"type": "ngram"}},
    ],
}
PODS: Final = f"headgate.dev/model in ({SMALL}, {TWINS})"


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
    "guessed": {
        "routes": [leads("all", TWINS, speculative={"maxTemperature": 0.5})],
        "stickiness": {"key": "None"},
    },
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
    for name, variants in VARIANTS.items():
        cluster.apply(
            {
                "apiVersion": "headgate.dev/v1alpha1",
                "kind": "ModelDeployment",
                "metadata": {"name": name},
                "spec": {"variants": variants},
            }
        )
    cluster.kubectl("wait", "mdep", *VARIANTS, "--for=condition=Ready", "--timeout=180s")
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
    cluster.kubectl("delete", "mdep", *VARIANTS)
    cluster.kubectl("wait", "pod", "-l", PODS, "--for=delete", "--timeout=120s")


@pytest.fixture(params=["2", "3"])
def major(request: pytest.FixtureRequest) -> str:
    """Of the SDK."""
    return str(request.param)


def sdk(major: str, *arguments: str) -> subprocess.Popen[str]:
    """Start `sdk_routing.py`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if major == "2":
        environment["PYTHONPATH"] += f":{older_openai()}"
    return subprocess.Popen(
        [sys.executable, sdk_routing.__file__, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_sdk_sees_what_the_policies_promise(cluster: Cluster, major: str) -> None:
    said, error = sdk(major, cluster.url, KEY).communicate()

    assert f"{major} {len(sdk_routing.CHECKS)}" == said.strip(), error


@contextmanager
def begun(major: str, address: str, model: str, text: str) -> Iterator[dict[str, Any]]:
    """A stream that an SDK has begun to read. Behind the block it is read to its end, and told."""
    process = sdk(major, f"http://{address}:8080/v1", KEY, model, text)
    assert process.stdout
    first = process.stdout.readline()
    told: dict[str, Any] = {}
    try:
        yield told
    finally:
        said, error = process.communicate("go on\n")
    assert ("begun\n", 0) == (first, process.returncode), error
    told.update(json.loads(said))


def broken(release: Release, cluster: Cluster, major: str, model: str) -> dict[str, Any]:
    """What an SDK reads of a stream whose pod is killed once it has begun."""
    said = "[[sim: tokens 200; slow 50ms]]"
    with begun(major, addresses(cluster, GATEWAYS)[0], model, said) as told:
        (pod,) = (pod for pod in ready_pods(cluster) if works(cluster, pod))
        before = restarts(cluster, pod)
        container(release, pod, "kill", "--signal", "SIGKILL")
    until(lambda: restarts(cluster, pod) > before, 60, f"{pod} is started again")
    settled(cluster, 2)
    return told


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
    release: Release, cluster: Cluster, major: str
) -> None:
    told = broken(release, cluster, major, "assistant-large")

    assert ("upstream_lost", True) == (told["error"], told["partial_output"])


def test_a_broken_stream_goes_on_at_another_pod(
    release: Release, cluster: Cluster, major: str
) -> None:
    told = broken(release, cluster, major, "going-on")

    assert ("stop", None) == (told["reason"], told.get("error"))


def test_streams_are_given_in_one_go_while_the_gateways_are_busy(
    release: Release, cluster: Cluster
) -> None:
    """The route's condition is about the load; clients that stream get valid streams anyway."""
    release.install(**{"gateway.env": {"MAX_REQUESTS": "8"}})
    address = addresses(cluster, GATEWAYS)[0]
    with ThreadPoolExecutor(5) as threads:
        calm = stream("3", address)
        kept = [threads.submit(ask, client(address), MODEL, "[[sim: wait 20s]]") for _ in range(5)]
        until(lambda: sum(in_work(cluster)) >= 5, 5, "the gateway is busy")
        busy = [stream(major, address) for major in ("2", "3")]
        for each in kept:
            each.result()
    release.install()

    whole = {"text": "One. Two. Three.", "reason": "stop"}
    assert {"route": "calm/idle"} | whole == calm
    assert [{"route": "calm/busy"} | whole] * 2 == busy


def stream(major: str, address: str) -> dict[str, Any]:
    """A stream of the policy that looks at the load."""
    with begun(major, address, "calm", '[[sim: say "One. Two. Three."; slow 30ms]]') as told:
        pass
    return told


def test_a_route_gives_guessing_up_while_guesses_are_bad(cluster: Cluster) -> None:
    gateway = client(addresses(cluster, GATEWAYS)[0])

    def guessed(script: str) -> int:
        """Of 80 requests, how many went to the pod that guesses."""
        asked = (
            sdk_routing.ask(gateway, "guessed", f"Hi [[sim: {script}]]", temperature=0)
            for _ in range(80)
        )
        return [answer.headers["x-headgate-variant"] for answer in asked].count("guessing")

    guessed("tokens 20; accept 5")

    assert guessed("tokens 20; accept 5") < 20


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
