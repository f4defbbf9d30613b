"""How models are called, as gateways know it: deadlines, retries, hedging, outliers."""

from typing import get_args

from headgate_api.callpolicy import (
    PERCENTILES,
    STAGES,
    Deadlines,
    Hedging,
    OutlierDetection,
    Retries,
)
from headgate_api.snapshot import (
    DeadlineBody,
    HedgingBody,
    OutlierBody,
    RetryBody,
    RetryOn,
)
from headgate_api.units import parse_duration


def deadlines(said: Deadlines) -> DeadlineBody:
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


def retries(said: Retries) -> RetryBody:
    # In one order, whatever the manifest's: equal policies are equal.
    retry_on = tuple(failure for failure in get_args(RetryOn) if failure in said.retry_on)
    return RetryBody(
        max_attempts=said.max_attempts,
        budget_percent=said.budget_percent,
        min_concurrent=said.min_concurrent,
        backoff_base=float(said.backoff_base),
        backoff_max=float(said.backoff_max),
        retry_on=retry_on or RetryBody().retry_on,
    )


def hedging(said: Hedging | None) -> HedgingBody | None:
    if said is None:
        return None
    percentile = PERCENTILES.get(said.after)
    return HedgingBody(
        percentile=percentile,
        seconds=None if percentile else parse_duration(said.after),
        max_percent=said.max_percent,
    )


def outliers(said: OutlierDetection) -> OutlierBody:
    return OutlierBody(
        consecutive_failures=said.consecutive_failures,
        base_ejection=float(said.base_ejection_time),
        max_ejection_percent=said.max_ejection_percent,
    )
