"""RoutingPolicy (`rpol`): what happens between a client's `model` and a model server."""

from typing import Annotated, ClassVar, Final, Literal

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
)
from headgate_api.callpolicy import Deadlines, Hedging, LoadBalancing, Retries
from headgate_api.routes import Route
from headgate_api.snapshot import Architecture, StickinessKey
from headgate_api.types import Duration, HeaderName, PublicName, between


class Stickiness(ApiModel):
    """What stays on its side of a split by weights."""

    key: StickinessKey = "Session"
    """Session: the requests of one session, by the header. User: those of one user. Tenant: those
    of one tenant. None: every request is dealt anew, as is one without a session or a user."""
    header: HeaderName = "x-session-id"
    """The header that names the session."""
    ttl: Annotated[Duration, *between("1m", "168h")] = Duration("1h")
    """How long it stays on its side, at most; then it is dealt anew."""


# The API server reckons with the longest string where a rule looks into a filtered list, so these
# rules count and cannot name a route.
_ENTRIES: Final = "self.routes.filter(r, r.role == 'Entry')"
_LAST: Final = f"{_ENTRIES}[{_ENTRIES}.size() - 1]"
_MANY: Final = f"{_ENTRIES}.size() > 1"
_CASCADE: Final = f"self.architecture == 'Cascade' && {_MANY}"


def _without(field: str) -> str:
    return f"self.routes.filter(r, r.role == 'Entry' && !has(r.{field})).size()"


class RoutingPolicySpec(ApiModel):
    """Which names, and where they lead."""

    validations = (
        Rule(
            f"self.architecture != 'Single' || {_ENTRIES}.size() == 1",
            "architecture Single takes one Entry route; set architecture: Router or Cascade",
            ".routes",
        ),
        Rule(
            f"self.architecture != 'Cascade' || {_MANY}",
            "a Cascade has at least two Entry routes",
            ".routes",
        ),
        Rule(
            f"self.architecture == 'Cascade' || ({_ENTRIES}.size() > 0 && !has({_LAST}.when))",
            "one Entry route without when is needed, as the last: it takes what is left",
            ".routes",
        ),
        Rule(
            f"self.architecture != 'Router' || {_without('when')} <= 1",
            "only the last Entry route has no when: "
            "it takes all that comes, and routes after it would never be reached",
            ".routes",
        ),
        Rule(
            f"!({_CASCADE}) || {_without('acceptWhen')} <= 1",
            "every stage of a Cascade but the last needs acceptWhen",
            ".routes",
        ),
        Rule(
            f"!({_CASCADE}) || !has({_LAST}.acceptWhen)",
            "the last stage of a Cascade has no acceptWhen: its answer is final",
            ".routes",
        ),
        Rule(
            f"!({_CASCADE}) || !has({_LAST}.when)",
            "the last stage of a Cascade has no when: somebody must answer",
            ".routes",
        ),
        Rule(
            "self.routes.all(r, !has(r.fallback) || "
            "r.fallback.all(f, self.routes.exists(x, x.name == f.route)))",
            "a fallback names a route that is not in routes",
            ".routes",
        ),
        Rule(
            "self.routes.all(r, r.role == 'Entry' || "
            "self.routes.exists(x, has(x.fallback) && x.fallback.exists(f, f.route == r.name)))",
            "a Fallback route is never reached: name it in another route's fallback",
            ".routes",
        ),
    )

    models: Annotated[tuple[PublicName, ...], distinct(1, 64)]
    """Public names that this policy claims: what clients write into `model`. Of two policies of a
    namespace that claim the same name the older one has it."""
    architecture: Architecture = "Single"
    """Single: one Entry route takes every request. Router: the first Entry route whose `when` is
    true takes the request. Cascade: the Entry routes are tried in their order until an answer
    fulfils its route's acceptWhen; only that one is shown."""
    match_headers: Annotated[tuple[HeaderName, ...], distinct(0, 16)] = ()
    """Headers that `when` may read, as `request.headers['x-feature']`."""
    routes: Annotated[tuple[Route, ...], keyed("name", 1, 64)]
    """The routes, in the order in which they are tried."""
    stickiness: Stickiness = Stickiness()
    """What stays on its side of a split by weights."""
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


class RouteStatus(ApiModel):
    """What one route does."""

    name: Annotated[str, Field(max_length=40)]
    """Name of the route."""
    ready: bool
    """Whether it has an answer to give."""
    reason: Annotated[str, Field(max_length=64)]
    """Why, in one word."""
    message: Annotated[str, Field(max_length=1024)]
    """Why, in a sentence."""


class RoutingPolicyStatus(Status):
    """What the policy does."""

    claimed: int | None = None
    """How many of its names the policy has."""
    models: Annotated[tuple[ModelClaim, ...], keyed("name", 0, 64)] = ()
    """What became of each name."""
    routes: Annotated[tuple[RouteStatus, ...], keyed("name", 0, 64)] = ()
    """What each route does."""


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
