"""A RoutingPolicy as gateways know it."""

from collections.abc import Iterable
from typing import Final, TypeVar, get_args

from headgate_api.callpolicy import (
    PERCENTILES,
    STAGES,
    Deadlines,
    Hedging,
    OutlierDetection,
    Retries,
)
from headgate_api.routingpolicy import Route, RoutingPolicy
from headgate_api.snapshot import (
    DeadlineBody,
    HedgingBody,
    OutlierBody,
    RetryBody,
    RetryOn,
    RouteBody,
    RouteRule,
    Target,
)
from headgate_api.units import parse_duration

Block = TypeVar("Block", DeadlineBody, RetryBody, OutlierBody)
STANDARD: Final = RouteBody()
"""How models are called that no policy claims."""


def body(policy: RoutingPolicy, held: Iterable[str], created: int) -> RouteBody:
    """Build the body for the names that the policy has."""
    spec = policy.spec
    (route,) = spec.routes
    return RouteBody(
        models=tuple(sorted(held)),
        created=created,
        routes=(RouteRule(name=route.name, targets=_targets(route)),),
        deadlines=_usual(_deadlines(spec.deadlines), STANDARD.deadlines),
        retries=_usual(_retries(spec.retries), STANDARD.retries),
        hedging=_hedging(spec.hedging),
        outliers=_usual(_outliers(spec.load_balancing.outlier_detection), STANDARD.outliers),
    )


def _targets(route: Route) -> tuple[Target, ...]:
    return tuple(Target(model=t.model_ref.name, weight=t.weight) for t in route.targets)


def requires(body: RouteBody) -> tuple[str, ...]:
    """Words that a gateway must know: one that ignored a deadline would break a promise."""
    said = (body.deadlines, body.retries, body.hedging, body.outliers)
    usual = (STANDARD.deadlines, STANDARD.retries, STANDARD.hedging, STANDARD.outliers)
    return () if said == usual else ("call-policy",)


def _usual(said: Block, usual: Block) -> Block:
    """Take the very object that means "as usual", which has no bytes in the snapshot."""
    return usual if said == usual else said


def _deadlines(said: Deadlines) -> DeadlineBody:
    spans = {stage: getattr(said.stages, stage, None) for stage in STAGES}
    return DeadlineBody(
        background=said.class_ == "Background",
        total=float(said.total),
        stream=float(said.stream),
        first_segment=float(said.first_segment),
        idle_token=float(said.idle_token),
        reserve=float(said.reserve),
        stages={stage: float(span) for stage, span in spans.items() if span is not None},
    )


def _retries(said: Retries) -> RetryBody:
    # In one order, whatever the manifest's: equal policies are equal.
    retry_on = tuple(failure for failure in get_args(RetryOn) if failure in said.retry_on)
    return RetryBody(
        max_attempts=said.max_attempts,
        budget_percent=said.budget_percent,
        min_concurrent=said.min_concurrent,
        backoff_base=float(said.backoff_base),
        backoff_max=float(said.backoff_max),
        retry_on=retry_on or STANDARD.retries.retry_on,
    )


def _hedging(said: Hedging | None) -> HedgingBody | None:
    if said is None:
        return None
    percentile = PERCENTILES.get(said.after)
    return HedgingBody(
        percentile=percentile,
        seconds=None if percentile else parse_duration(said.after),
        max_percent=said.max_percent,
    )


def _outliers(said: OutlierDetection) -> OutlierBody:
    return OutlierBody(
        consecutive_failures=said.consecutive_failures,
        base_ejection=float(said.base_ejection_time),
        max_ejection_percent=said.max_ejection_percent,
    )
