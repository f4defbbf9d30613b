"""ModelDeployments in a World: how tests write them, and what they look at."""

from collections.abc import Mapping
from typing import Any

from headgate_controllers.contract import Environment, Key

from .world import NAMESPACE, World

GOOD = "Accepted=True SpecAccepted: the spec makes sense here"
FOUND = "ResolvedRefs=True RefsResolved: everything that the object names was found"
SUITED = "NodesSuited=True NodesFound: every variant has a node that could run it"
NOBODY = "Available=False ReplicasMissing: no replica answers"
HF = "hf://meta-llama/Llama-3.1-8B@main"
H100, A100 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB"


def variant(name: str = "bf16", uri: str = HF, **more: Any) -> dict[str, Any]:
    return {"name": name, "source": {"uri": uri}, **more}


def spec(*variants: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"variants": list(variants) or [variant()], **more}


def world_with(spec: Mapping[str, Any], **env: Any) -> tuple[World, Key]:
    world = World(env=Environment(**{"region": "eu", "image": "triton:1", "namespace": "hg"} | env))
    world.node("n1", H100, "9.0")
    return world, world.apply("ModelDeployment", "llama", spec)


def all_ready(world: World, key: Key) -> None:
    """Run passes until nothing changes, with every pod ready at once."""
    for _ in range(20):
        world.settle(key)
        world.run_pods()
        for pod in world.pods():
            if not pod["status"]["conditions"]:
                world.passes(1)
                world.turn_ready(pod)


def children(world: World, kind: str) -> list[str]:
    return sorted(m["metadata"]["name"] for m in world.all(kind))


def made(world: World) -> dict[Key, Any]:
    """The children's specs."""
    kinds = {"ModelDeployment", "Node", "Pod"}
    return {key: m.get("spec", m.get("data")) for key, m in world.objects.items()
            if key.kind not in kinds}  # fmt: skip


def sizes(world: World) -> dict[str, int]:
    return {m["metadata"]["name"]: m["spec"]["replicas"] for m in world.all("Deployment")}


BAD = spec(variant(quantization="fp8", gpu={"products": [A100]}), replicas=2)
TEMPLATE = "{{ messages[-1].content }}!"
TEMPLATED = spec(model={"chatTemplate": {"configMapKeyRef": {"name": "t", "key": "chat"}}})
TEMPLATE_MAP = Key("ConfigMap", NAMESPACE, "t")
