"""ModelDeployment: what wakes it, and what a pass may look at."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from headgate_api import labels
from headgate_api.conditions import Reason
from headgate_api.errors import Invalid
from headgate_api.modeldeployment import ModelDeployment
from headgate_controllers.contract import (
    Cache,
    Controller,
    Document,
    Environment,
    Key,
    Manifest,
    Note,
    Watch,
    key_of,
    owner_of,
)
from headgate_controllers.modeldeployment.acceptance import verdict
from headgate_controllers.modeldeployment.gpus import PRODUCT, nodes_of
from headgate_controllers.modeldeployment.observed import (
    Entries,
    Observed,
    deployed_of,
    pod_of,
)
from headgate_controllers.modeldeployment.plan import plan
from headgate_controllers.modeldeployment.references import references
from headgate_controllers.modeldeployment.revisions import (
    KIND as REVISION,
    Revision,
    last_accepted,
    revisions_of,
)
from headgate_controllers.standing import created, senior, subject_of

KIND: Final = "ModelDeployment"


def observe(key: Key, cache: Cache, env: Environment) -> Observed | None:
    """Look at the object, its children and pods, what it refers to, and the nodes."""
    if (subject := subject_of(key, cache)) is None:
        return None
    manifest, uid = subject.manifest, subject.uid
    revisions = revisions_of(cache.owned(REVISION, uid))
    accepted = _last_accepted(manifest, revisions, cache)
    served = manifest if accepted is None else accepted
    pods = (pod_of(pod, cache.answered(pod["metadata"]["uid"])) for pod in cache.owned("Pod", uid))
    return Observed(
        subject,
        _parse(manifest),
        served["spec"],
        env,
        revisions,
        None if accepted is None else _parse(accepted),
        created=created(manifest),
        senior=senior(manifest, cache.find(KIND, _name(manifest))),
        entries={reference: _entries(reference, cache) for reference in references(served)},
        template=_template(served, cache),
        pods=tuple(pods),
        deployments=tuple(map(deployed_of, cache.owned("Deployment", uid))),
        config_maps=tuple(m["metadata"]["name"] for m in cache.owned("ConfigMap", uid)),
        nodes=nodes_of(cache.all("Node")),
    )


def lacks(seen: Observed) -> Iterator[Key]:
    """Name what a refused spec calls for: the one accepted last, and what that refers to."""
    found = verdict(seen)
    if isinstance(found, Note) and found.reason != Reason.NAME_CONFLICT and seen.revisions:
        yield Key(REVISION, seen.subject.identity.namespace, seen.revisions[0].name)
        yield from seen.entries


def _parse(manifest: Manifest) -> ModelDeployment | Invalid:
    try:
        return ModelDeployment.parse(manifest)
    except Invalid as error:
        return error


def _last_accepted(
    manifest: Manifest, revisions: Sequence[Revision], cache: Cache
) -> Manifest | None:
    if not revisions:
        return None
    key = Key(REVISION, manifest["metadata"]["namespace"], revisions[0].name)
    return last_accepted(manifest, revisions[0], cache.document(key))


def _entries(key: Key, cache: Cache) -> Entries:
    found = cache.document(key)
    return frozenset(found.data) if isinstance(found, Document) else found


def _template(manifest: Manifest, cache: Cache) -> str | None:
    template = manifest["spec"].get("model", {}).get("chatTemplate", {})
    if (ref := template.get("configMapKeyRef")) is None:
        return None
    found = cache.document(Key("ConfigMap", manifest["metadata"]["namespace"], ref["name"]))
    if not isinstance(found, Document) or ref["key"] not in found.data:
        return None
    return found.data[ref["key"]].decode(errors="replace")


def index(manifest: Manifest) -> Iterable[str]:
    yield _name(manifest)
    for key in references(manifest):
        yield _reference(key)
    products = {
        product
        for variant in manifest["spec"].get("variants", ())
        for product in variant.get("gpu", {}).get("products", ("",))
    }
    for product in sorted(products):
        yield _gpu(product)


def _name(manifest: Manifest) -> str:
    meta = manifest["metadata"]
    return f"name/{meta['namespace']}/{manifest['spec'].get('model', {}).get('name', meta['name'])}"


def _reference(key: Key) -> str:
    return "/".join(key)


def _gpu(product: str) -> str:
    """The word of a GPU product; the empty one is for variants that name none."""
    return f"gpu/{product}"


def _rivals(manifest: Manifest, cache: Cache) -> set[Key]:
    return {key_of(manifest)} | {key_of(m) for m in cache.find(KIND, _name(manifest))}


def _owner(child: Manifest, cache: Cache) -> list[Key]:
    owner = owner_of(child)
    return [owner] if owner is not None and owner.kind == KIND else []


def _model(pod: Manifest, cache: Cache) -> list[Key]:
    """A pod's model, by its label: a ReplicaSet owns the pod."""
    meta = pod["metadata"]
    name = meta.get("labels", {}).get(labels.MODEL)
    return [Key(KIND, meta["namespace"], name)] if name else []


def _users(document: Manifest, cache: Cache) -> list[Key]:
    return [key_of(m) for m in cache.find(KIND, _reference(key_of(document)))]


def _config_map(document: Manifest, cache: Cache) -> list[Key]:
    return _owner(document, cache) + _users(document, cache)


def _hopefuls(node: Manifest, cache: Cache) -> set[Key]:
    """Models that could run on a node with this one's GPUs."""
    product = node["metadata"].get("labels", {}).get(PRODUCT, "")
    words = {_gpu(product), _gpu("")}
    return {key_of(m) for word in words for m in cache.find(KIND, word)}


CONTROLLER = Controller(
    kind=KIND,
    watches=(
        Watch(KIND, wakes=_rivals),
        Watch(REVISION, wakes=_owner),
        Watch("Deployment", wakes=_owner),
        Watch("Pod", wakes=_model),
        Watch("Service", wakes=_owner),
        Watch("PodDisruptionBudget", wakes=_owner),
        Watch("NetworkPolicy", wakes=_owner),
        Watch("ConfigMap", wakes=_config_map),
        Watch("Secret", wakes=_users),
        Watch("Node", wakes=_hopefuls),
    ),
    references=references,
    observe=observe,
    plan=plan,
    lacks=lacks,
    index=index,
)
