"""RoutingPolicies in a World: how tests write them, and what they look at."""

from typing import Any

from headgate_api.snapshot import Entry, RouteBody
from headgate_controllers.contract import Key
from headgate_policy.snapshot import decode_body

from .world import World

ALL_NAMES = "Accepted=True PolicyAccepted: the policy has all its names"
FOUND = "ResolvedRefs=True RefsResolved: everything that the object names was found"
HONORED = "SpecHonored=True AllFieldsActive: all that the policy says is acted on"
EVERYWHERE = "Programmed=True AllGateways: every Ready gateway enforces generation 1"
SERVING = "Ready=True Serving: a model behind the policy answers"


def spec(*models: str, targets: tuple[str, ...] = ("llama",)) -> dict[str, Any]:
    """A policy with one route, over these models by rising weights."""
    to = [{"modelRef": {"name": name}, "weight": i} for i, name in enumerate(targets, 1)]
    return {"models": list(models), "routes": [{"name": "all", "targets": to}]}


def route(name: str, **more: Any) -> dict[str, Any]:
    """A route to the model `llama`, or with `targets` or `respond` of its own."""
    leads = {} if "respond" in more else {"targets": [{"modelRef": {"name": "llama"}}]}
    return {"name": name, **leads, **more}


def policy(architecture: str, *routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"models": ["gpt"], "architecture": architecture, "routes": list(routes), **more}


def model(world: World, name: str, runtime: str = "triton-llmapi", /, **conditions: str) -> Key:
    """A ModelDeployment with the variants fp8, whose pod answers, and int4, which has none."""
    variants = [{"name": variant} for variant in ("fp8", "int4")]
    of = {"runtime": {"type": runtime}, "variants": variants}
    key = world.apply("ModelDeployment", name, of)
    said = [{"type": t, "status": status, "reason": "X"} for t, status in conditions.items()]
    answering = int(conditions.get("Available") == "True")
    world.objects[key]["status"] = {
        "conditions": said,
        "variants": [{"name": "fp8", "readyReplicas": answering}, {"name": "int4"}],
    }
    return key


def entry(said: dict[str, Any]) -> Entry:
    """The entry of the policy `chat`, alone in its world."""
    world = World()
    plan = world.settle(world.apply("RoutingPolicy", "chat", said))
    assert plan.entry is not None, plan.status
    return plan.entry


def decoded(told: Entry) -> RouteBody:
    body = decode_body(told)
    assert isinstance(body, RouteBody)
    return body
