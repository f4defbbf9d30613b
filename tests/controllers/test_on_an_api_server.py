"""What controllers want, as a real API server takes it: strictly, and a second time for free."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from headgate_controllers.contract import Key

from .policies import policy, route
from .world import START, World, stamp

pytestmark = pytest.mark.apiserver
CRDS = Path(__file__).parents[2] / "crds"
NAMESPACE = "controllers-on-an-api-server"
Kubectl = Callable[..., str]

PLAIN = {"variants": [{"name": "bf16", "source": {"uri": "hf://meta/llama@main"}}]}
FULL = {
    "replicas": 3,
    "model": {"name": "gpt", "maxContextTokens": 4096},
    "runtime": {
        "type": "triton-python",
        "image": "triton:2",
        "args": ["--log-verbose=1"],
        "shmSize": "2Gi",
        "env": [
            {"name": "A", "value": ""},
            {"name": "T", "secretKeyRef": {"name": "hf", "key": "token"}},
        ],
    },
    "pod": {
        "nodeSelector": {"zone": "a"},
        "annotations": {"note": "x"},
        "priorityClassName": "high",
        "serviceAccountName": "model",
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [{"key": "spot", "operator": "Equal", "value": "yes"}],
        "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "8Gi"}},
    },
    "variants": [
        {
            "name": "fp8",
            "quantization": "fp8",
            "source": {"uri": "pvc://weights/repo"},
            "gpu": {"count": 2},
            "engine": {"maxBatchSize": 8, "kvCachePercent": 50, "config": {"a": {"b": [1]}}},
        },
        {
            "name": "int4",
            "quantization": "int4-awq",
            "source": {"uri": "file:///repo"},
            "replicas": 1,
            "gpu": {"products": ["NVIDIA-H100-PCIe"], "computeCapabilities": ["9.0"]},
        },
    ],
}
GUESSING = {
    "replicas": 3,
    "variants": [
        {"name": "plain", "source": {"uri": "pvc://weights/llama"}},
        {
            "name": "head",
            "source": {"uri": "pvc://weights/llama"},
            "speculative": {"type": "eagle3", "draft": {"uri": "pvc://drafts/head"}},
        },
        {
            "name": "small",
            "source": {"uri": "pvc://weights/llama"},
            "speculative": {
                "type": "draft-target",
                "maxDraftTokens": 5,
                "draft": {"uri": "pvc://weights/small"},
            },
        },
    ],
}


@pytest.fixture(scope="module")
def here(control_plane: Any) -> Kubectl:
    """Kubectl, with our kinds and a namespace in place."""
    kubectl: Kubectl = control_plane.kubectl
    kubectl("apply", "--server-side", "-f", str(CRDS))
    kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
    kubectl("create", "namespace", NAMESPACE)
    return kubectl


def apply(kubectl: Kubectl, manifest: Mapping[str, Any], *more: str) -> dict[str, Any]:
    command = ("apply", "--server-side", "--validate=strict", "--field-manager=headgate")
    answer = kubectl(*command, *more, "-o", "json", "-f", "-", stdin=json.dumps(manifest))
    made: dict[str, Any] = json.loads(answer)
    return made


@pytest.mark.parametrize(
    ("name", "spec"), [("plain", PLAIN), ("full", FULL), ("guessing", GUESSING)]
)
def test_children_and_status_are_taken_strictly_and_once(
    here: Kubectl, name: str, spec: dict[str, Any]
) -> None:
    meta = {"name": name, "namespace": NAMESPACE}
    mdep = {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": meta,
        "spec": spec,
    }
    live = apply(here, mdep)
    world = World()
    world.node("n1", "NVIDIA-H100-PCIe", "9.0")
    key = Key("ModelDeployment", NAMESPACE, name)
    world.objects[key] = live

    plan = world.settle(key)
    versions = []
    for _ in range(2):
        made = [apply(here, child) for child in plan.wanted]
        status = {**mdep, "metadata": meta, "status": plan.status}
        del status["spec"]
        made.append(apply(here, status, "--subresource=status"))
        versions.append([child["metadata"]["resourceVersion"] for child in made])

    assert versions[0] == versions[1]
    assert plan.status == made[-1]["status"]
    assert stamp(START) == made[-1]["status"]["conditions"][0]["lastTransitionTime"]


def test_the_status_of_a_policy_is_taken_strictly_and_once(here: Kubectl) -> None:
    spec = policy(
        "Router",
        route("first", when="request.stream || tenant.budgetUsed > 0.9"),
        route("last", fallback=[{"route": "sorry", "triggers": ["Error"]}], speculative={}),
        route("sorry", role="Fallback", respond={"message": "Later."}),
    )
    meta = {"name": "routes", "namespace": NAMESPACE}
    frame = {"apiVersion": "headgate.dev/v1alpha1", "kind": "RoutingPolicy", "metadata": meta}
    world = World()
    key = Key("RoutingPolicy", NAMESPACE, "routes")
    world.objects[key] = apply(here, {**frame, "spec": spec})

    plan = world.settle(key)
    taken = [
        apply(here, {**frame, "status": plan.status}, "--subresource=status") for _ in range(2)
    ]

    assert plan.status == taken[0]["status"]
    assert taken[0]["metadata"]["resourceVersion"] == taken[1]["metadata"]["resourceVersion"]
    assert [("first", False), ("last", False), ("sorry", True)] == [
        (one["name"], one["ready"]) for one in taken[1]["status"]["routes"]
    ]
