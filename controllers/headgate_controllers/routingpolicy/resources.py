"""A RoutingPolicy as gateways know it."""

from collections.abc import Iterable

from headgate_api.routingpolicy import RoutingPolicy
from headgate_api.snapshot import RouteBody, Target


def body(policy: RoutingPolicy, held: Iterable[str], created: int) -> RouteBody:
    """Build the body for the names that the policy has."""
    (route,) = policy.spec.routes
    return RouteBody(
        models=tuple(sorted(held)),
        targets=tuple(Target(model=t.model_ref.name, weight=t.weight) for t in route.targets),
        created=created,
    )
