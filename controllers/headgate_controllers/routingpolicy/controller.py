"""RoutingPolicy: what wakes it, and what a pass may look at."""

from collections.abc import Iterable
from typing import Final

from headgate_api.errors import Invalid
from headgate_api.routingpolicy import RoutingPolicy
from headgate_controllers.contract import (
    Cache,
    Controller,
    Environment,
    Key,
    Manifest,
    Watch,
    key_of,
    nothing,
)
from headgate_controllers.routingpolicy.plan import Observed, Target, plan
from headgate_controllers.standing import created, senior, subject_of

KIND: Final = "RoutingPolicy"


def observe(key: Key, cache: Cache, env: Environment) -> Observed | None:
    """Look at the object, at older ones with the same names, and at the models behind it."""
    if (subject := subject_of(key, cache)) is None:
        return None
    manifest = subject.manifest
    try:
        policy = RoutingPolicy.parse(manifest)
    except Invalid as error:
        return Observed(subject, error)
    winners = {
        name: winner["metadata"]["name"]
        for name in policy.spec.models
        if (winner := senior(manifest, cache.find(KIND, _claim(key.namespace, name)))) is not None
    }
    models = [target.model_ref.name for route in policy.spec.routes for target in route.targets]
    return Observed(
        subject,
        policy,
        created=created(manifest),
        winners=winners,
        targets={
            name: _target(Key("ModelDeployment", key.namespace, name), cache) for name in models
        },
    )


def _target(key: Key, cache: Cache) -> Target:
    if (model := cache.get(key)) is None:
        return "Missing"
    conditions = model.get("status", {}).get("conditions", ())
    said = {condition["type"]: condition["status"] for condition in conditions}
    if said.get("Available") == "True":
        return "Answers"
    return "Starts" if said.get("Ready", "Unknown") == "Unknown" else "Fails"


def index(manifest: Manifest) -> Iterable[str]:
    namespace, spec = manifest["metadata"]["namespace"], manifest["spec"]
    for name in spec.get("models", ()):
        yield _claim(namespace, name)
    for route in spec.get("routes", ()):
        for target in route.get("targets", ()):
            yield f"target/{namespace}/{target['modelRef']['name']}"


def _claim(namespace: str, name: str) -> str:
    return f"name/{namespace}/{name}"


def _rivals(manifest: Manifest, cache: Cache) -> set[Key]:
    words = (word for word in index(manifest) if word.startswith("name/"))
    return {key_of(manifest)} | {key_of(m) for word in words for m in cache.find(KIND, word)}


def _users(model: Manifest, cache: Cache) -> list[Key]:
    meta = model["metadata"]
    return [key_of(m) for m in cache.find(KIND, f"target/{meta['namespace']}/{meta['name']}")]


CONTROLLER = Controller(
    kind=KIND,
    watches=(Watch(KIND, wakes=_rivals), Watch("ModelDeployment", wakes=_users)),
    references=nothing,
    observe=observe,
    plan=plan,
    index=index,
)
