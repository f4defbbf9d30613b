"""Conditions and reasons: the machine words in every status, listed for users in the manual."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias

ConditionType: TypeAlias = Literal[
    "Accepted",
    "Available",
    "NodesSuited",
    "Programmed",
    "Progressing",
    "Ready",
    "ResolvedRefs",
    "SpecHonored",
]


class Reason(StrEnum):
    """Why a condition is what it is. One CamelCase word; users alert on it: never renamed."""

    # Accepted
    SPEC_ACCEPTED = "SpecAccepted"
    """The ModelDeployment makes sense here."""
    POLICY_ACCEPTED = "PolicyAccepted"
    """The policy makes sense and has won every name that it claims."""
    QUOTA_ACCEPTED = "QuotaAccepted"
    """The tenant and its keys belong to this object alone."""
    SPEC_INVALID = "SpecInvalid"
    """The object breaks a rule of its schema: it was written before the rule existed."""
    PRECISION_UNSUPPORTED = "PrecisionUnsupported"
    """A variant's precision cannot run on its GPU class."""
    UNKNOWN_GPU_CLASS = "UnknownGPUClass"
    """A variant names a GPU product that this release does not know."""
    SOURCE_INVALID = "SourceInvalid"
    """A variant's source is nothing that its runtime can serve."""
    NAME_CONFLICT = "NameConflict"
    """Another ModelDeployment of the namespace already has this public name."""
    MODEL_NAME_CONFLICT = "ModelNameConflict"
    """Another RoutingPolicy of the namespace already claims one of these names."""
    INVALID_EXPRESSION = "InvalidExpression"
    """A condition of a route is no expression that a gateway could evaluate."""
    ROUTE_NEVER_MATCHES = "RouteNeverMatches"
    """No request can ever come to a route, or no answer of it can ever be accepted."""
    FALLBACK_LOOP = "FallbackLoop"
    """Routes fall back to each other in a circle."""
    TENANT_CONFLICT = "TenantConflict"
    """Another TenantQuota already stands for this tenant."""
    KEY_CONFLICT = "KeyConflict"
    """One of the API keys already belongs to another tenant."""
    PATTERN_UNSUPPORTED = "PatternUnsupported"
    """A rule's pattern is not RE2."""
    EXAMPLE_FAILED = "ExampleFailed"
    """A rule does not do what its own examples say."""

    # ResolvedRefs
    REFS_RESOLVED = "RefsResolved"
    """Everything that the object names exists and could be read."""
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason
    """A Secret, or an entry of it, does not exist."""
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    """A ConfigMap does not exist."""
    KEY_NOT_FOUND = "KeyNotFound"
    """A Secret or ConfigMap lacks the named entry."""
    KEY_TOO_SHORT = "KeyTooShort"
    """An API key is shorter than 32 characters."""
    KEY_UNUSABLE = "KeyUnusable"
    """An entry of a Secret is no API key: no client can send it in a header."""
    SECRET_EMPTY = "SecretEmpty"  # noqa: S105 - a reason
    """A Secret for API keys has no entries."""
    MODEL_NOT_FOUND = "ModelNotFound"
    """A route names a ModelDeployment that does not exist."""
    VARIANT_NOT_FOUND = "VariantNotFound"
    """A route names a variant that its ModelDeployment does not have."""
    CAPABILITY_MISSING = "CapabilityMissing"
    """An acceptWhen reads what no model server of the route can tell."""
    SOURCE_UNREADABLE = "SourceUnreadable"
    """A Secret or ConfigMap could not be read; what was known before stays in force."""
    TEMPLATE_INVALID = "TemplateInvalid"
    """The chat template does not render a sample conversation."""

    # NodesSuited
    NODES_FOUND = "NodesFound"
    """Every variant has a node that could run it."""
    NO_SUITED_NODE = "NoSuitedNode"
    """No node has the GPU class that a variant asks for."""

    # Available
    MINIMUM_REPLICAS_READY = "MinimumReplicasReady"
    """At least one replica answers."""
    REPLICAS_MISSING = "ReplicasMissing"
    """No replica answers."""

    # Progressing
    ROLLOUT_RUNNING = "RolloutRunning"
    """Pods of a new revision are taking over from an old one."""
    ROLLOUT_COMPLETE = "RolloutComplete"
    """All pods are of the newest revision and answer."""
    SCALING = "Scaling"
    """Replicas are being added or removed."""
    INSUFFICIENT_GPU = "InsufficientGPU"
    """A pod waits because no suited node has a free GPU."""
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    """Nothing has moved for longer than rollout.progressDeadline allows."""

    # SpecHonored
    ALL_FIELDS_ACTIVE = "AllFieldsActive"
    """All that the object says is acted on."""
    NOT_SUPPORTED_HERE = "NotSupportedHere"
    """The object is in force, but for something that this release, or the models that it names,
    cannot do."""

    # Programmed
    ALL_GATEWAYS = "AllGateways"
    """Every Ready gateway enforces this generation."""
    GATEWAYS_BEHIND = "GatewaysBehind"
    """A Ready gateway does not enforce this generation yet."""
    NO_GATEWAYS = "NoGateways"
    """No gateway is Ready, so nobody can enforce it."""
    KEPT_LAST_ACCEPTED = "KeptLastAccepted"
    """This generation was refused; the last accepted one stays in force."""

    # Events only
    WRITE_REFUSED = "WriteRefused"
    """The API server refuses something that the operator has to write for the object."""

    # Ready
    PROBE_ANSWERED = "ProbeAnswered"
    """Every wanted replica returned a token to a probe."""
    PROBE_FAILED = "ProbeFailed"
    """A replica says that it is ready, but its one-token probe failed."""
    STARTING = "Starting"
    """Fewer replicas answer than the spec asks for; more are on the way."""
    SUSPENDED = "Suspended"
    """spec.suspend is true: no pods, clients get 503."""
    NOT_PLACED_HERE = "NotPlacedHere"
    """spec.placement does not name this region: nothing to do here."""
    SCALED_TO_ZERO = "ScaledToZero"
    """Zero replicas are asked for."""
    SERVING = "Serving"
    """The policy is in force, and its last route has an answer to give."""
    NO_TARGET_READY = "NoTargetReady"
    """No model behind the policy, or behind a route of it, answers."""
    ENFORCED = "Enforced"
    """The policy is in force."""
    SHADOWING = "Shadowing"
    """The policy decides and counts, but lets everything pass."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a pass found out about one condition."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str

    def __str__(self) -> str:
        return f"{self.type}={self.status} {self.reason}: {self.message}"


def settle(
    before: Sequence[dict[str, Any]], marks: Sequence[Mark], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Turn marks into `status.conditions`. The transition time moves only when a status flips.

    Args:
        before: `status.conditions` as the object has them.
        marks: what this pass found, in the order to show; a type that is not marked goes away.
        generation: metadata.generation that the marks speak of.
        now: time of the pass, aware.
    """
    old = {condition["type"]: condition for condition in before}
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def since(mark: Mark) -> str:
        was = old.get(mark.type)
        if was is not None and was["status"] == mark.status:
            return str(was["lastTransitionTime"])
        return stamp

    return [
        {
            "type": mark.type,
            "status": mark.status,
            "reason": str(mark.reason),
            "message": mark.message[:1024],
            "observedGeneration": generation,
            "lastTransitionTime": since(mark),
        }
        for mark in marks
    ]
