"""A RoutingPolicy as gateways know it."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from headgate_api.routingpolicy import RoutingPolicy, Stickiness
from headgate_api.snapshot import (
    DeadlineBody,
    OutlierBody,
    RetryBody,
    RouteBody,
    StickinessBody,
)
from headgate_controllers.routingpolicy.calling import deadlines, hedging, outliers, retries
from headgate_controllers.routingpolicy.rules import rule

Block = TypeVar("Block", DeadlineBody, RetryBody, OutlierBody, StickinessBody)
STANDARD: Final = RouteBody()
"""How models are called that no policy claims."""


def body(
    policy: RoutingPolicy, held: Iterable[str], created: int, instructions: Mapping[str, str]
) -> RouteBody:
    """Build the body for the names that the policy has.

    Args:
        policy: the policy, as accepted.
        held: which of its names it has.
        created: seconds since 1970.
        instructions: of verifiers, by the name of their route.
    """
    spec = policy.spec
    return RouteBody(
        models=tuple(sorted(held)),
        created=created,
        architecture=spec.architecture,
        match_headers=tuple(sorted({header.lower() for header in spec.match_headers})),
        routes=tuple(rule(route, instructions.get(route.name, "")) for route in spec.routes),
        stickiness=_usual(_stickiness(spec.stickiness), STANDARD.stickiness),
        deadlines=_usual(deadlines(spec.deadlines), STANDARD.deadlines),
        retries=_usual(retries(spec.retries), STANDARD.retries),
        hedging=hedging(spec.hedging),
        outliers=_usual(outliers(spec.load_balancing.outlier_detection), STANDARD.outliers),
    )


def requires(body: RouteBody) -> tuple[str, ...]:
    """Words that a gateway must know: one that ignored a deadline would break a promise."""
    said = (body.deadlines, body.retries, body.hedging, body.outliers)
    usual = (STANDARD.deadlines, STANDARD.retries, STANDARD.hedging, STANDARD.outliers)
    return ("routes",) if said == usual else ("call-policy", "routes")


def _usual(said: Block, usual: Block) -> Block:
    """Take the very object that means "as usual", which has no bytes in the snapshot."""
    return usual if said == usual else said


def _stickiness(said: Stickiness) -> StickinessBody:
    return StickinessBody(key=said.key, header=said.header.lower(), ttl=float(said.ttl))
