"""A RoutingPolicy as gateways know it."""

from collections.abc import Iterable, Mapping
from typing import Final

from headgate_api.routingpolicy import RoutingPolicy, Stickiness
from headgate_api.snapshot import RouteBody, StickinessBody
from headgate_controllers.routingpolicy.calling import deadlines, hedging, outliers, retries
from headgate_controllers.routingpolicy.rules import rule

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
        stickiness=_stickiness(spec.stickiness),
        deadlines=deadlines(spec.deadlines),
        retries=retries(spec.retries),
        hedging=hedging(spec.hedging),
        outliers=outliers(spec.load_balancing.outlier_detection),
    )


def requires(body: RouteBody) -> tuple[str, ...]:
    """Words that a gateway must know: one that ignored a deadline would break a promise."""
    said = (body.deadlines, body.retries, body.hedging, body.outliers)
    usual = (STANDARD.deadlines, STANDARD.retries, STANDARD.hedging, STANDARD.outliers)
    return ("routes",) if said == usual else ("call-policy", "routes")


def _stickiness(said: Stickiness) -> StickinessBody:
    return StickinessBody(key=said.key, header=said.header.lower(), ttl=float(said.ttl))
