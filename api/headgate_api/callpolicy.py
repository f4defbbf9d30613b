"""How a model server is called: deadlines, retries, hedging and the choice of a pod."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from headgate_api.base import ApiModel, Rule, distinct
from headgate_api.snapshot import RetryOn
from headgate_api.types import Duration, Percent, between
from headgate_api.units import DURATION, parse_duration

STAGES: Final = ("admission", "input", "context", "routing", "output")


def _durations(rule: str, *fields: str) -> str:
    """A rule that looks at durations; a malformed one is told by its own field alone."""
    shapes = " && ".join(f"self.{field}.matches('{DURATION}')" for field in fields)
    return f"!({shapes}) || {rule}"


def _sum_of_stages() -> str:
    """CEL for the time that is gone before and after the model; a malformed stage counts 0."""
    spans = [
        f"has(self.stages.{stage}) && self.stages.{stage}.matches('{DURATION}') ? "
        f"duration(self.stages.{stage}) : duration('0s')"
        for stage in STAGES
    ]
    return f"[{', '.join([*spans, 'duration(self.reserve)'])}].sum()"


class Stages(ApiModel):
    """How long single stages may take. One that is not named has what is left of the request."""

    admission: Annotated[Duration, *between("1ms", "10m")] | None = None
    """Waiting for a place."""
    input: Annotated[Duration, *between("1ms", "1m")] | None = None
    """Checking what the client sent."""
    context: Annotated[Duration, *between("1ms", "1m")] | None = None
    """Fitting the prompt to the model."""
    routing: Annotated[Duration, *between("1ms", "1m")] | None = None
    """Choosing a route."""
    output: Annotated[Duration, *between("1ms", "1m")] | None = None
    """Checking what the model answered."""


class Deadlines(ApiModel):
    """How long a request may take. A client may ask for less, never for more."""

    validations = (
        Rule(
            _durations("duration(self.reserve) < duration(self.total)", "reserve", "total"),
            "must be shorter than total, which is {self.total}; this is {self.reserve}",
            ".reserve",
        ),
        Rule(
            _durations(
                "duration(self.firstSegment) <= duration(self.stream)", "firstSegment", "stream"
            ),
            "must not be longer than stream, which is {self.stream}; this is {self.firstSegment}",
            ".firstSegment",
        ),
        Rule(
            _durations("duration(self.total) <= duration(self.stream)", "total", "stream"),
            "must not be longer than stream, which is {self.stream}; this is {self.total}",
            ".total",
        ),
        Rule(
            "!has(self.stages) || "
            + _durations(f"{_sum_of_stages()} < duration(self.total)", "reserve", "total"),
            "the stages and reserve leave no time for the model within total, "
            "which is {self.total}",
            ".stages",
        ),
    )

    class_: Annotated[Literal["Interactive", "Background"], Field(alias="class")] = "Interactive"
    """Interactive: somebody waits for the answer. Background: nobody does, so that no second pod is
    ever asked for it."""
    total: Annotated[Duration, *between("100ms", "24h")] = Duration("2m")
    """A plain answer, to its last byte."""
    stream: Annotated[Duration, *between("100ms", "24h")] = Duration("10m")
    """A stream, to its last byte."""
    first_segment: Annotated[Duration, *between("10ms", "1h")] = Duration("30s")
    """To the first text: the wait at the model server and the reading of the prompt included."""
    idle_token: Annotated[Duration, *between("100ms", "10m")] = Duration("15s")
    """Silence between two pieces of text."""
    reserve: Annotated[Duration, *between("0s", "1m")] = Duration("500ms")
    """Of total and stream, kept back for ending gracefully."""
    stages: Stages | None = None
    """How long single stages may take. Absent: as long as the request may."""


class Retries(ApiModel):
    """When a call is tried again: always before the client has seen anything of an answer."""

    validations = (
        Rule(
            _durations(
                "duration(self.backoffBase) <= duration(self.backoffMax)",
                "backoffBase",
                "backoffMax",
            ),
            "must not be longer than backoffMax, which is {self.backoffMax}; "
            "this is {self.backoffBase}",
            ".backoffBase",
        ),
    )

    max_attempts: Annotated[int, Field(ge=1, le=5)] = 2
    """Tries of one request, the first included. 1: no retries."""
    budget_percent: Percent = 20
    """Retries that may run at once, as a share of the requests that do: a model that is down is not
    asked twice as often for it."""
    min_concurrent: Annotated[int, Field(ge=0, le=100)] = 3
    """Retries that may run at once however few requests there are."""
    backoff_base: Annotated[Duration, *between("1ms", "10s")] = Duration("100ms")
    """Longest wait before the first retry. It doubles with each one, and a random part of it is
    waited."""
    backoff_max: Annotated[Duration, *between("1ms", "1m")] = Duration("2s")
    """Longest wait before any retry."""
    retry_on: Annotated[tuple[RetryOn, ...], distinct(1, 6)] = ()
    """After which failures. Absent: Connect, Reset, Unavailable and Overloaded. FirstTokenTimeout
    pays for a prompt twice, and InvalidOutput (an answer that is not what response_format asked
    for) for an answer."""


PERCENTILES: Final = {"p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99}
_PERCENTILE: Final = f"self in {list(PERCENTILES)}"
_SHAPE: Final = f"self.matches('{DURATION}')"
_SPAN: Final = "duration('1ms') <= duration(self) && duration(self) <= duration('1m')"


def _checked(text: str) -> str:
    if text not in PERCENTILES:
        parse_duration(text)
    return text


After = Annotated[
    str,
    Field(min_length=1, max_length=16),
    AfterValidator(_checked),
    Rule(
        f"{_PERCENTILE} || !{_SHAPE} || ({_SPAN})",
        "1ms to 1m is allowed, this is {self}",
    ),
    Rule(
        f"{_PERCENTILE} || {_SHAPE}",
        "write p50, p75, p90, p95, p99 or a duration such as 800ms; this is {self}",
    ),
]


class Hedging(ApiModel):
    """When a second pod is asked while the first is still silent. The first to speak answers."""

    after: After = "p95"
    """Silence after which it is asked: a percentile of the model's times to the first text, or a
    duration."""
    max_percent: Annotated[int, Field(ge=1, le=20)] = 5
    """Share of the requests that may be asked for twice."""


class OutlierDetection(ApiModel):
    """When a pod that fails gets no more requests for a while."""

    consecutive_failures: Annotated[int, Field(ge=1, le=100)] = 5
    """Failed calls in a row after which the pod is left out."""
    base_ejection_time: Annotated[Duration, *between("1s", "1h")] = Duration("30s")
    """How long, for the first time; it doubles each time in a row."""
    max_ejection_percent: Percent = 50
    """Share of a model's pods that may be left out at once. 0: none ever is."""


class LoadBalancing(ApiModel):
    """How a pod is chosen."""

    policy: Literal["LeastInFlight"] = "LeastInFlight"
    """LeastInFlight: the pod with the fewest requests of this gateway."""
    outlier_detection: OutlierDetection = OutlierDetection()
    """When a pod that fails gets no more requests for a while."""
