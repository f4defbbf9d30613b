"""What a pass over a RoutingPolicy may look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from headgate_api.errors import Invalid
from headgate_api.routingpolicy import RoutingPolicy
from headgate_api.snapshot import RouteBody
from headgate_controllers.contract import Found, Key, Manifest
from headgate_controllers.standing import Subject
from headgate_policy.snapshot import decode_body

State: TypeAlias = Literal["Answers", "Starts", "Fails", "Missing"]


@dataclass(frozen=True, slots=True)
class Model:
    """A ModelDeployment that a route names."""

    answers: bool
    starts: bool
    """Pods are on their way."""
    runtime: str
    variants: Mapping[str, bool]
    """By name: whether a pod of it answers."""
    guessing: frozenset[str]
    """Variants that guess ahead."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that this decision may depend on."""

    subject: Subject
    policy: RoutingPolicy | Invalid
    created: int = 0
    winners: Mapping[str, str] = field(default_factory=dict)
    """By name of a model: the RoutingPolicy that has it instead of this one."""
    models: Mapping[str, Model] = field(default_factory=dict)
    """By name: the ModelDeployments that routes name and that are there."""
    documents: Mapping[Key, Found] = field(default_factory=dict)
    """ConfigMaps with the instructions of verifiers."""

    @property
    def kept(self) -> RouteBody | None:
        entry = self.subject.kept
        return None if entry is None else cast(RouteBody, decode_body(entry))


def model_of(manifest: Manifest) -> Model:
    """Look at a ModelDeployment."""
    spec, status = manifest["spec"], manifest.get("status", {})
    said = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
    answering = {
        variant["name"] for variant in status.get("variants", ()) if variant.get("readyReplicas")
    }
    return Model(
        answers=said.get("Available") == "True",
        starts=said.get("Ready", "Unknown") == "Unknown",
        runtime=spec.get("runtime", {}).get("type", "triton-llmapi"),
        variants={
            variant["name"]: variant["name"] in answering for variant in spec.get("variants", ())
        },
        guessing=frozenset(
            variant["name"] for variant in spec.get("variants", ()) if "speculative" in variant
        ),
    )
