"""A cluster in memory: what the operator would see, write and hear, without any of it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from headgate_api import labels
from headgate_api.snapshot import Entry
from headgate_controllers import ALL
from headgate_controllers.contract import (
    Controller,
    Document,
    Environment,
    Found,
    Key,
    Manifest,
    Missing,
    Plan,
    Programmed,
    Unreadable,
    key_of,
)
from headgate_policy.snapshot import decode_body

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACE = "chat"
ENV = Environment(region="eu", image="triton:1", namespace="headgate")
EVERYWHERE = Programmed("AllGateways")
BY_KIND: dict[str, Controller[Any]] = {controller.kind: controller for controller in ALL}


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class World:
    """Implements `contract.Cache`, and does what the operator does with a plan."""

    now: datetime = START
    env: Environment = ENV
    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    documents: dict[Key, Found] = field(default_factory=dict)
    in_force: dict[Key, Entry] = field(default_factory=dict)
    state: Programmed = EVERYWHERE
    answers: dict[str, str] = field(default_factory=dict)
    serial: int = 0
    fetched: set[Key] = field(default_factory=set)
    """What the pass has read: nothing else of Secrets and the like may be looked into."""

    # The cache.
    def get(self, key: Key) -> Manifest | None:
        return self.objects.get(key)

    def all(self, kind: str, namespace: str | None = None) -> Iterable[Manifest]:
        here = (m for key, m in self.objects.items() if key.kind == kind)
        return [m for m in here if namespace in {None, m["metadata"].get("namespace")}]

    def owned(self, kind: str, uid: str) -> Iterable[Manifest]:
        mine = (m for m in self.all(kind) if labels.MODEL_UID in m["metadata"].get("labels", {}))
        return [m for m in mine if m["metadata"]["labels"][labels.MODEL_UID] == uid]

    def find(self, kind: str, word: str) -> Iterable[Manifest]:
        return [m for m in self.all(kind) if word in set(BY_KIND[kind].index(m))]

    def holders(self, kind: str, word: str) -> Iterable[Entry]:
        return [entry for entry in self.entries(kind) if word in set(BY_KIND[kind].holds(entry))]

    def document(self, key: Key) -> Found:
        if key not in self.fetched:
            return Unreadable("not fetched")
        if key.kind == "ControllerRevision" and key not in self.documents:
            revision = self.objects[key]
            return Document(
                {name: json.dumps(it).encode() for name, it in revision["data"].items()}
            )
        return self.documents.get(key, Missing())

    def accepted(self, key: Key) -> Entry | None:
        return self.in_force.get(key)

    def entries(self, kind: str) -> Iterable[Entry]:
        return [entry for key, entry in self.in_force.items() if key.kind == kind]

    def programmed(self, key: Key, generation: int) -> Programmed:
        return self.state

    def answered(self, pod_uid: str) -> str | None:
        return self.answers.get(pod_uid)

    # What users and the cluster do.
    def apply(self, kind: str, name: str, spec: Mapping[str, Any], **meta: Any) -> Key:
        """Create or change one of the four kinds."""
        key = Key(kind, meta.pop("namespace", NAMESPACE), name)
        before = self.objects.get(key)
        self.serial += 1
        if before is None:
            metadata = {
                "name": name,
                "namespace": key.namespace,
                "uid": f"uid-{self.serial}",
                "generation": 1,
                "creationTimestamp": stamp(self.now),
            }
        else:
            changed = before["spec"] != spec
            metadata = before["metadata"] | {
                "generation": before["metadata"]["generation"] + changed
            }
        self.objects[key] = {
            "apiVersion": labels.API_VERSION,
            "kind": kind,
            "metadata": metadata | meta,
            "spec": dict(spec),
            "status": {} if before is None else before["status"],
        }
        return key

    def delete(self, key: Key) -> None:
        del self.objects[key]
        self.in_force.pop(key, None)

    def secret(self, name: str, **data: str) -> Key:
        key = Key("Secret", NAMESPACE, name)
        self.documents[key] = Document({entry: text.encode() for entry, text in data.items()})
        return key

    def node(self, name: str, product: str, capability: str = "", gpus: int = 8) -> None:
        found = {"nvidia.com/gpu.product": product}
        if capability:
            major, minor = capability.split(".")
            found |= {
                "nvidia.com/gpu.compute.major": major,
                "nvidia.com/gpu.compute.minor": minor,
            }
        self.objects[Key("Node", "", name)] = {
            "kind": "Node",
            "metadata": {"name": name, "labels": found},
            "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}},
        }

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # What the operator does.
    def plan(self, key: Key) -> Plan:
        controller = BY_KIND[key.kind]
        self.fetched = {*controller.references(self.objects[key])}
        seen = controller.observe(key, self, self.env)
        while seen is not None and (lacks := {*controller.lacks(seen)} - self.fetched):
            self.fetched |= lacks
            seen = controller.observe(key, self, self.env)
        assert seen is not None
        plan: Plan = controller.plan(seen, self.now)
        return plan

    def settle(self, key: Key) -> Plan:
        """One pass, written down."""
        plan = self.plan(key)
        for child, replicas in plan.scaled:
            self.objects[child]["spec"]["replicas"] = replicas
        for manifest in plan.wanted:
            child = key_of(manifest)
            before = self.objects.get(child)
            created = stamp(self.now) if before is None else _created(before)
            metadata = {**manifest["metadata"], "creationTimestamp": created}
            self.objects[child] = {**manifest, "metadata": metadata}
        for child in plan.unwanted:
            self.objects.pop(child, None)
        self.objects[key] = {**self.objects[key], "status": plan.status}
        if plan.entry is None:
            self.in_force.pop(key, None)
        else:
            self.in_force[key] = plan.entry
        return plan

    def wakes(self, manifest: Manifest) -> set[Key]:
        watches = (watch for c in ALL for watch in c.watches if watch.kind == manifest["kind"])
        return {key for watch in watches for key in watch.wakes(manifest, self)}

    # Deployments and the kubelet.
    def run_pods(self, *, gpus: int = 1000) -> None:
        """Make the pods that Deployments ask for, and take the others away: unready ones first."""
        for deployment in self.all("Deployment"):
            cohort = deployment["metadata"]["name"]
            pods = sorted(self.pods(cohort), key=lambda pod: (not _ready(pod), key_of(pod)))
            for pod in pods[deployment["spec"]["replicas"] :]:
                del self.objects[key_of(pod)]
            for _ in range(deployment["spec"]["replicas"] - len(pods)):
                self._new_pod(deployment)
        for pod in sorted(self.all("Pod"), key=lambda pod: int(pod["metadata"]["uid"][4:])):
            gpus -= 1
            self._schedule(pod, fits=gpus >= 0)

    def pods(self, cohort: str = "") -> list[Manifest]:
        return [pod for pod in self.all("Pod") if cohort in {"", _cohort(pod)}]

    def _new_pod(self, deployment: Manifest) -> None:
        self.serial += 1
        name = f"{deployment['metadata']['name']}-{self.serial}"
        self.objects[Key("Pod", NAMESPACE, name)] = {
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"pod-{self.serial}",
                "creationTimestamp": stamp(self.now),
                "labels": deployment["spec"]["template"]["metadata"]["labels"],
            },
            "status": {"conditions": []},
        }

    def _schedule(self, pod: Manifest, *, fits: bool) -> None:
        if not _ready(pod):
            waits = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
            }
            pod["status"]["conditions"] = [] if fits else [waits]

    def turn_ready(self, pod: Manifest, *, answer: str | None = "") -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": stamp(self.now)}
        pod["status"]["conditions"] = [condition]
        if answer is not None:
            self.answers[pod["metadata"]["uid"]] = answer

    def turn_away(self, pod: Manifest) -> None:
        """Delete a pod that takes its time to go."""
        pod["metadata"]["deletionTimestamp"] = stamp(self.now)

    def turn_unready(self, pod: Manifest) -> None:
        pod["status"]["conditions"] = []


def told(plan: Plan) -> tuple[str, ...]:
    """The conditions, as a reader of kubectl sees them."""
    return tuple(
        f"{c['type']}={c['status']} {c['reason']}: {c['message']}"
        for c in plan.status["conditions"]
    )


def body(plan: Plan) -> Any:
    return None if plan.entry is None else decode_body(plan.entry)


def answering(world: World) -> int:
    return sum(_ready(pod) for pod in world.pods())


def _created(manifest: Manifest) -> str:
    return str(manifest["metadata"]["creationTimestamp"])


def _ready(pod: Manifest) -> bool:
    return any(c["type"] == "Ready" for c in pod["status"]["conditions"])


def _cohort(pod: Manifest) -> str:
    return str(pod["metadata"]["labels"][labels.COHORT])
