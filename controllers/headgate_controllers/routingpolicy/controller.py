"""RoutingPolicy: what wakes it, and what a pass may look at."""

from collections.abc import Iterable, Iterator
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
)
from headgate_controllers.routingpolicy.observed import Observed, model_of
from headgate_controllers.routingpolicy.plan import plan
from headgate_controllers.standing import created, senior, subject_of

KIND: Final = "RoutingPolicy"


def observe(key: Key, cache: Cache, env: Environment) -> Observed | None:
    """Look at the object, at older ones with the same names, and at what its routes name."""
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
    models = {model.name: cache.get(model) for model in _models(manifest)}
    return Observed(
        subject,
        policy,
        created=created(manifest),
        winners=winners,
        models={name: model_of(found) for name, found in models.items() if found is not None},
        documents={document: cache.document(document) for document in references(manifest)},
    )


def references(manifest: Manifest) -> list[Key]:
    """Name the ConfigMaps that a pass needs: the instructions of verifiers."""
    namespace = manifest["metadata"]["namespace"]
    names = {
        route["verifier"]["instructionsKeyRef"]["name"]
        for route in manifest["spec"].get("routes", ())
        if "instructionsKeyRef" in route.get("verifier", {})
    }
    return [Key("ConfigMap", namespace, name) for name in sorted(names)]


def index(manifest: Manifest) -> Iterable[str]:
    namespace = manifest["metadata"]["namespace"]
    for name in manifest["spec"].get("models", ()):
        yield _claim(namespace, name)
    for key in (*_models(manifest), *references(manifest)):
        yield "/".join(key)


def _models(manifest: Manifest) -> Iterator[Key]:
    namespace = manifest["metadata"]["namespace"]
    for route in manifest["spec"].get("routes", ()):
        judges = [route["verifier"]] if "verifier" in route else []
        for named in (*route.get("targets", ()), *judges):
            yield Key("ModelDeployment", namespace, named["modelRef"]["name"])


def _claim(namespace: str, name: str) -> str:
    return f"name/{namespace}/{name}"


def _rivals(manifest: Manifest, cache: Cache) -> set[Key]:
    words = (word for word in index(manifest) if word.startswith("name/"))
    return {key_of(manifest)} | {key_of(m) for word in words for m in cache.find(KIND, word)}


def _users(named: Manifest, cache: Cache) -> list[Key]:
    return [key_of(m) for m in cache.find(KIND, "/".join(key_of(named)))]


CONTROLLER = Controller(
    kind=KIND,
    watches=(
        Watch(KIND, wakes=_rivals),
        Watch("ModelDeployment", wakes=_users),
        Watch("ConfigMap", wakes=_users),
    ),
    references=references,
    observe=observe,
    plan=plan,
    index=index,
)
