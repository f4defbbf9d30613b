"""RoutingPolicy (`rpol`): what happens between a client's `model` and a model server."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headgate_api.base import (
    AGE,
    MESSAGE,
    READY,
    REASON,
    ApiModel,
    Column,
    Resource,
    Rule,
    Status,
    distinct,
    keyed,
    ordered,
)
from headgate_api.callpolicy import Deadlines, Hedging, LoadBalancing, Retries
from headgate_api.types import ModelRef, PublicName, RouteName


class Target(ApiModel):
    """A model that a route may lead to."""

    model_ref: ModelRef
    """The ModelDeployment, by metadata.name."""
    weight: Annotated[int, Field(ge=0, le=1000000)] = 1
    """Share of the requests, relative to the route's other targets. Absent: 1."""


class Route(ApiModel):
    """Where requests go."""

    validations = (
        Rule(
            "self.targets.size() == 0 || self.targets.exists(t, !has(t.weight) || t.weight > 0)",
            "every weight is 0; give one target a weight above 0",
            ".targets",
        ),
    )

    name: RouteName
    """Name of the route, for logs and headers."""
    targets: Annotated[tuple[Target, ...], ordered(1, 16)]
    """Models that share the requests by weight."""


class RoutingPolicySpec(ApiModel):
    """Which names, and where they lead."""

    models: Annotated[tuple[PublicName, ...], distinct(1, 64)]
    """Public names that this policy claims: what clients write into `model`. Of two policies of a
    namespace that claim the same name the older one has it."""
    architecture: Literal["Single"] = "Single"
    """Single: one route takes every request."""
    routes: Annotated[tuple[Route, ...], keyed("name", 1, 1)]
    """The routes."""
    deadlines: Deadlines = Deadlines()
    """How long a request may take."""
    retries: Retries = Retries()
    """When a call is tried again."""
    hedging: Hedging | None = None
    """When a second pod is asked while the first is still silent. Absent: never."""
    load_balancing: LoadBalancing = LoadBalancing()
    """How a pod is chosen."""


class ModelClaim(ApiModel):
    """What became of one claimed name."""

    name: Annotated[str, Field(max_length=128)]
    """The name."""
    state: Literal["Held", "Lost"]
    """Whether this policy has it."""
    held_by: Annotated[str, Field(max_length=253)] | None = None
    """The RoutingPolicy that has it instead."""


class RoutingPolicyStatus(Status):
    """What the policy does."""

    claimed: int | None = None
    """How many of its names the policy has."""
    models: Annotated[tuple[ModelClaim, ...], keyed("name", 0, 64)] = ()
    """What became of each name."""


class RoutingPolicy(Resource):
    """Public model names, and the models behind them."""

    kind = "RoutingPolicy"
    plural = "routingpolicies"
    short_name = "rpol"
    columns: ClassVar[tuple[Column, ...]] = (
        READY,
        REASON,
        Column("Models", ".spec.models"),
        Column("Arch", ".spec.architecture"),
        AGE,
        Column("Held", ".status.claimed", "integer", wide=True),
        MESSAGE,
    )

    spec: RoutingPolicySpec
    """Which names, and where they lead."""
    status: RoutingPolicyStatus = Field(default_factory=RoutingPolicyStatus)
    """What the policy does, as last found by the operator."""
