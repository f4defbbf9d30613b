"""What a pure controller and the operator's process promise each other."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from headgate_api.conditions import Reason
from headgate_api.snapshot import Entry

Manifest: TypeAlias = Mapping[str, Any]
"""An object as the API server has it (JSON)."""
Seen = TypeVar("Seen")


class Key(NamedTuple):
    """Which object to look at: never what happened to it."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Note:
    """A decision in words: a reason for machines and a sentence for people."""

    reason: Reason
    sentence: str
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one pass wants. The operator writes it; plan() itself touches nothing."""

    status: Manifest  # `.status` in full, applied once, after everything else
    scaled: tuple[tuple[Key, int], ...] = ()  # spec.replicas of children, patched before the rest
    wanted: tuple[Manifest, ...] = ()  # applied in this order, skipped where equal
    unwanted: tuple[Key, ...] = ()  # deleted by name: absence from `wanted` deletes nothing
    entry: Entry | None = None  # this object in the snapshot; None: it is not in force
    notes: tuple[Note, ...] = ()  # become events, when they are new
    requeue_after: float | None = None  # s; None: only an event can change the answer


@dataclass(frozen=True, slots=True)
class Document:
    """The entries of a Secret or a ConfigMap, or the JSON of those of a ControllerRevision."""

    data: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Missing:
    """The API server says that there is no such object."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Could not be read, or not yet: what was known before stays in force."""

    why: str  # for people: "403 Forbidden", "timeout"


Found: TypeAlias = Document | Missing | Unreadable


class Programmed(NamedTuple):
    """How far gateways are with the snapshot that holds an object's newest entry."""

    state: Literal["AllGateways", "GatewaysBehind", "NoGateways"]
    behind: tuple[str, ...] = ()  # names of gateway pods


class Cache(Protocol):
    """The operator's read-only view of the cluster. Manifests carry no managedFields."""

    def get(self, key: Key) -> Manifest | None: ...

    def all(self, kind: str, namespace: str | None = None) -> Iterable[Manifest]: ...

    def owned(self, kind: str, uid: str) -> Iterable[Manifest]:
        """Objects of `kind` whose controller, or label `headgate.dev/model-uid`, is `uid`.

        The label is for pods: a ReplicaSet controls them. Deployments come as metadata,
        spec.replicas and status; pods as metadata, spec.nodeName and status; nodes as labels,
        taints, unschedulable, capacity and allocatable; ControllerRevisions, Services,
        PodDisruptionBudgets, NetworkPolicies, Secrets and ConfigMaps as metadata alone.
        """
        ...

    def find(self, kind: str, word: str) -> Iterable[Manifest]:
        """Objects of `kind` that have `word` among their `Controller.index`: a look-up."""
        ...

    def holders(self, kind: str, word: str) -> Iterable[Entry]:
        """Entries of `kind` in force that have `word` among their `Controller.holds`."""
        ...

    def document(self, key: Key) -> Found:
        """What the pass has fetched (`Controller.references`, `Controller.lacks`)."""
        ...

    def accepted(self, key: Key) -> Entry | None:
        """The object's entry in the snapshot that is in force, the last accepted version."""
        ...

    def entries(self, kind: str) -> Iterable[Entry]:
        """Every entry of `kind` that is in force."""
        ...

    def programmed(self, key: Key, generation: int) -> Programmed: ...

    def answered(self, pod_uid: str) -> str | None:
        """Result of the pod's one-token probe: "" answered, a sentence why not, None not yet."""
        ...


@dataclass(frozen=True, slots=True)
class Watch:
    """A kind that wakes a controller, and the keys of those that an object of it concerns.

    `wakes` is asked with the version before and with the one after a change, as far as there are.
    """

    kind: str
    wakes: Callable[[Manifest, Cache], Iterable[Key]]


@dataclass(frozen=True, slots=True)
class Environment:
    """What the chart sets and every decision may depend on."""

    region: str
    image: str  # with Triton, for models that name none
    namespace: str  # the operator's own
    url: str | None = None  # base URL of the gateways for OpenAI clients in this cluster
    trtllm_serve_image: str = ""  # with trtllm-serve, for models that name none


def nothing(_: Any) -> tuple[()]:
    return ()


@dataclass(frozen=True, slots=True)
class Controller(Generic[Seen]):
    """One kind: what it watches, what it looks at, what it decides."""

    kind: str
    watches: tuple[Watch, ...]
    references: Callable[[Manifest], Iterable[Key]]
    """Secrets and ConfigMaps that a pass over the object needs; fetched before `observe`."""
    observe: Callable[[Key, Cache, Environment], Seen | None]
    """Freeze what plan() may look at. None: the object is gone, and its children with it."""
    plan: Callable[[Seen, datetime], Plan]
    lacks: Callable[[Seen], Iterable[Key]] = nothing
    """What else plan() needs, as only a look can tell. It is fetched, and observed once more."""
    index: Callable[[Manifest], Iterable[str]] = nothing
    """Words under which `Cache.find` has an object: names that it claims, what it refers to."""
    holds: Callable[[Entry], Iterable[str]] = nothing
    """Words under which `Cache.holders` has an entry: what only one object may have."""


def key_of(manifest: Manifest) -> Key:
    meta = manifest["metadata"]
    return Key(manifest["kind"], meta.get("namespace", ""), meta["name"])


def owner_of(manifest: Manifest) -> Key | None:
    """The object that controls this one, if any."""
    meta = manifest["metadata"]
    for owner in meta.get("ownerReferences", ()):
        if owner.get("controller"):
            return Key(owner["kind"], meta["namespace"], owner["name"])
    return None
