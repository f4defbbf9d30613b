"""Two controllers, as thin as a controller can be, that use all that the process offers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headgate_api.conditions import Mark, Reason, settle
from headgate_api.errors import Unavailable
from headgate_api.labels import MODEL_SERVER, PART
from headgate_api.snapshot import Entry, GatewayReport, Identity, ModelBody, TenantBody
from headgate_controllers.contract import (
    Cache,
    Controller,
    Document,
    Environment,
    Found,
    Key,
    Manifest,
    Missing,
    Note,
    Plan,
    Programmed,
    Watch,
    key_of,
    owner_of,
)
from headgate_policy.snapshot import make_entry

MODEL_KIND, TENANT_KIND = "ModelDeployment", "TenantQuota"


@dataclass(frozen=True)
class Seen:
    manifest: Manifest
    programmed: Programmed
    secret: Found = field(default_factory=Missing)
    kept: Entry | None = None
    deployments: tuple[Manifest, ...] = ()


def observe(key: Key, cache: Cache, env: Environment) -> Seen | None:
    if (manifest := cache.get(key)) is None:
        return None
    meta = manifest["metadata"]
    return Seen(
        manifest,
        cache.programmed(key, meta["generation"]),
        cache.document(Key("Secret", key.namespace, key.name)),
        cache.accepted(key),
        tuple(cache.owned("Deployment", meta["uid"])),
    )


def plan_model(seen: Seen, now: datetime) -> Plan:
    meta = seen.manifest["metadata"]
    wanted = deployment(seen.manifest)
    unwanted = [key_of(d) for d in seen.deployments if d["metadata"]["name"] != meta["name"]]
    return Plan(
        status=status(seen, now, Mark("Ready", "Unknown", Reason.STARTING, "of course")),
        wanted=(wanted,),
        unwanted=tuple(unwanted),
        entry=entry(seen.manifest, ModelBody(public_name=meta["name"])),
        notes=(Note(Reason.STARTING, "the pods are on their way"),),
    )


def plan_tenant(seen: Seen, now: datetime) -> Plan:
    match seen.secret:
        case Document(data):
            mark = Mark("ResolvedRefs", "True", Reason.REFS_RESOLVED, f"{len(data)} keys")
            accepted: Entry | None = entry(seen.manifest, TenantBody(tenant=",".join(sorted(data))))
        case Missing():
            mark, accepted = Mark("ResolvedRefs", "False", Reason.SECRET_NOT_FOUND, "none"), None
        case _:
            mark = Mark("ResolvedRefs", "Unknown", Reason.SOURCE_UNREADABLE, "not now")
            accepted = seen.kept
    return Plan(status=status(seen, now, mark), entry=accepted)


def status(seen: Seen, now: datetime, mark: Mark) -> Manifest:
    meta = seen.manifest["metadata"]
    done = "True" if seen.programmed.state == "AllGateways" else "False"
    reason = Reason.ALL_GATEWAYS if done == "True" else Reason.GATEWAYS_BEHIND
    marks = (mark, Mark("Programmed", done, reason, seen.programmed.state))
    before = seen.manifest.get("status", {}).get("conditions", ())
    generation = meta["generation"]
    return {
        "observedGeneration": generation,
        "conditions": settle(before, marks, generation, now),
    }


def entry(manifest: Manifest, body: Any) -> Entry:
    meta = manifest["metadata"]
    identity = Identity(kind=manifest["kind"], namespace=meta["namespace"], name=meta["name"])
    return make_entry(identity, uid=meta["uid"], generation=meta["generation"], body=body)


def deployment(owner: Manifest) -> Manifest:
    """The child of a ModelDeployment: a Deployment of its name."""
    meta = owner["metadata"]
    labels = {PART: MODEL_SERVER, "app": meta["name"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "replicas": owner["spec"].get("replicas", 1),
            "selector": {"matchLabels": {"app": meta["name"]}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "server", "image": "none"}]},
            },
        },
    }


def itself(manifest: Manifest, cache: Cache) -> Iterable[Key]:
    return [key_of(manifest)]


def its_owner(manifest: Manifest, cache: Cache) -> Iterable[Key]:
    owner = owner_of(manifest)
    return [] if owner is None else [owner]


def its_namesake(manifest: Manifest, cache: Cache) -> Iterable[Key]:
    meta = manifest["metadata"]
    key = Key(TENANT_KIND, meta["namespace"], meta["name"])
    return [] if cache.get(key) is None else [key]


def secret_of(manifest: Manifest) -> Iterable[Key]:
    meta = manifest["metadata"]
    return [Key("Secret", meta["namespace"], meta["name"])]


def none(_: Manifest) -> Iterable[Key]:
    return ()


MODELS: Controller[Seen] = Controller(
    kind=MODEL_KIND,
    watches=(Watch(MODEL_KIND, itself), Watch("Deployment", its_owner)),
    references=none,
    observe=observe,
    plan=plan_model,
)
TENANTS: Controller[Seen] = Controller(
    kind=TENANT_KIND,
    watches=(Watch(TENANT_KIND, itself), Watch("Secret", its_namesake)),
    references=secret_of,
    observe=observe,
    plan=plan_tenant,
)


def model(name: str, namespace: str, **spec: Any) -> Manifest:
    variants = [{"name": "only", "source": {"uri": "file:///models"}}]
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": MODEL_KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"variants": variants, **spec},
    }


def tenant(name: str, namespace: str) -> Manifest:
    credentials = [{"name": "keys", "apiKeys": {"secretRef": {"name": name}}}]
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": TENANT_KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"credentials": credentials},
    }


def secret(name: str, namespace: str, **entries: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": entries,
    }


@dataclass
class FakeGateways:
    """Gateways that report what a test says."""

    reports: dict[str, GatewayReport] = field(default_factory=dict)
    asked: int = 0

    async def __call__(self, pod: Manifest) -> GatewayReport:
        self.asked += 1
        if (report := self.reports.get(pod["metadata"]["name"])) is None:
            raise Unavailable("no answer")
        return report


@dataclass
class FakeProbe:
    """Model servers that answer, or say why not."""

    why_not: str = ""
    asked: list[str] = field(default_factory=list)

    async def __call__(self, pod: Manifest) -> None:
        self.asked.append(pod["metadata"]["name"])
        if self.why_not:
            raise Unavailable(self.why_not)


Condition = Callable[[], Any]
