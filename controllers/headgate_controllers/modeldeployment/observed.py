"""What a pass over a ModelDeployment may look at: pods, Deployments and nodes in few words."""

from collections.abc import Mapping, Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias, cast

from headgate_api import labels
from headgate_api.conditions import Reason
from headgate_api.errors import Invalid
from headgate_api.modeldeployment import ModelDeployment
from headgate_api.snapshot import ModelBody
from headgate_controllers.contract import Environment, Key, Manifest, Missing, Unreadable
from headgate_controllers.modeldeployment.gpus import RESOURCE, Node
from headgate_controllers.modeldeployment.revisions import Revision
from headgate_controllers.standing import Subject
from headgate_policy.snapshot import decode_body

Entries: TypeAlias = AbstractSet[str] | Missing | Unreadable
"""Names of the entries of a Secret or ConfigMap: never a Secret's contents."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of the model."""

    cohort: str
    variant: str
    created: datetime
    deleting: bool = False
    ready_since: datetime | None = None
    """None: not ready."""
    answer: str | None = None
    """Of its one-token probe: "" it answered, a sentence why not, None not asked yet."""
    lacks_gpu: bool = False
    """No suited node has a free GPU."""
    problem: str = ""
    """Why it does not start, in a sentence that stays the same while it is so."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A cohort's Deployment."""

    name: str
    variant: str
    revision: str
    replicas: int
    created: datetime


@dataclass(frozen=True, slots=True)
class Observed:
    """All that the decision may depend on."""

    subject: Subject
    mdep: ModelDeployment | Invalid
    spec: Manifest
    """What is carried out, as the API server has it: the accepted spec, where it was read."""
    env: Environment
    revisions: tuple[Revision, ...] = ()
    """Specs that were accepted, the last one first."""
    accepted: ModelDeployment | Invalid | None = None
    """With the spec that was accepted last, which is read only where this one is refused."""
    created: int = 0
    senior: Manifest | None = None
    """An older ModelDeployment with the same public name."""
    entries: Mapping[Key, Entries] = field(default_factory=dict)
    """Of the Secrets and ConfigMaps that `spec` names."""
    template: str | None = None
    """The chat template that the ConfigMap of `spec` holds, if it could be read."""
    pods: tuple[Pod, ...] = ()
    deployments: tuple[Deployed, ...] = ()
    config_maps: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = ()

    @property
    def kept(self) -> ModelBody | None:
        """The model as it is in force."""
        kept = self.subject.kept
        return None if kept is None else cast(ModelBody, decode_body(kept))

    def answers(self, pod: Pod) -> bool:
        """Tell whether a pod is ready and has answered.

        All pods that were ready when we wrote Ready=True had answered: a new leader, which has
        asked nobody yet, goes by that.
        """
        if pod.deleting or pod.ready_since is None:
            return False
        if pod.answer is not None:
            return pod.answer == ""
        return any(
            condition["type"] == "Ready"
            and condition["status"] == "True"
            and condition["reason"] == Reason.PROBE_ANSWERED
            and pod.ready_since <= datetime.fromisoformat(condition["lastTransitionTime"])
            for condition in self.subject.conditions
        )


def pod_of(manifest: Manifest, answer: str | None) -> Pod:
    """Read a pod."""
    meta, status = manifest["metadata"], manifest.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    ready = conditions.get("Ready", {})
    scheduled = conditions.get("PodScheduled", {})
    waits = scheduled.get("reason") == "Unschedulable"
    message = scheduled.get("message", "")
    return Pod(
        cohort=meta["labels"].get(labels.COHORT, ""),
        variant=meta["labels"].get(labels.VARIANT, ""),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        deleting="deletionTimestamp" in meta,
        ready_since=datetime.fromisoformat(ready["lastTransitionTime"])
        if ready.get("status") == "True"
        else None,
        answer=answer,
        lacks_gpu=waits and RESOURCE in message,
        problem=f"no node takes the pod: {message}" if waits else _problem(status),
    )


def deployed_of(manifest: Manifest) -> Deployed:
    """Read a Deployment."""
    meta = manifest["metadata"]
    return Deployed(
        name=meta["name"],
        variant=meta["labels"].get(labels.VARIANT, ""),
        revision=meta["labels"].get(labels.REVISION, ""),
        replicas=manifest["spec"].get("replicas", 1),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
    )


def _problem(status: Manifest) -> str:
    """Say what keeps a container from running.

    The kubelet's reasons come and go (ErrImagePull, ImagePullBackOff, running, CrashLoopBackOff);
    what is said here stays, so that the status is not written at every turn.
    """
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if "Image" in reason:
            return f"the image {container.get('image', '')} cannot be pulled"
        if reason == "CreateContainerConfigError":
            return f"the container cannot be made: {waiting.get('message', reason)}"
        if container.get("restartCount", 0) and not container.get("ready"):
            return "the model server ended and was started again: see kubectl logs --previous"
    return ""
