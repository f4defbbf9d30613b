"""A request as spans, made after its end from the times that were noted on its way.

One span stands for the request, one for each stage and one for each attempt. The attempt's span has
the id that its model server was told, so that a model server's own spans hang below it.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final, Literal, TypeAlias

import msgspec

from headgate_gateway.telemetry import names
from headgate_gateway.telemetry.facts import Facts
from headgate_gateway.telemetry.trace_context import Trace, new_span_id
from headgate_gateway.timeline import Attempt, Timeline

Value: TypeAlias = str | bool | int | float | tuple[str, ...]
Kind: TypeAlias = Literal["server", "internal", "client"]
BLAMELESS: Final = frozenset({"ok", "cancelled", "hedge_lost", "client_closed"})
"""Ends of an attempt that say nothing against its model server."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: Kind
    span_id: int
    parent_id: int  # 0: none
    started: int  # ns since 1970
    ended: int
    attributes: Mapping[str, Value]
    error: str | None = None  # reason code


class Told(msgspec.Struct, frozen=True):
    """A request that is over."""

    facts: Facts
    timeline: Timeline
    trace: Trace
    began: float
    """s since 1970 when its timeline started."""
    method: str
    path: str


def spans(told: Told, *, region: str, ids: Callable[[], int] = new_span_id) -> list[Span]:
    """Build all spans of a request, its own first."""
    clock = _Clock(told)
    return [
        _server(told, clock, region),
        *_stages(told, clock, ids),
        *(_attempt(told, clock, number, a) for number, a in enumerate(told.timeline.attempts, 1)),
    ]


class _Clock:
    """From the loop's clock, which never jumps, to the time of day."""

    def __init__(self, told: Told) -> None:
        self._offset = told.began - told.timeline.started
        ended = told.timeline.ended
        self.ended = told.timeline.started + told.facts.duration_s if ended is None else ended

    def ns(self, at: float) -> int:
        return int((at + self._offset) * 1e9)


def _server(told: Told, clock: _Clock, region: str) -> Span:
    facts = told.facts
    given: dict[str, Value | None] = {
        "http.request.method": told.method,
        "url.path": told.path,
        "http.response.status_code": facts.status or None,
        names.OPERATION_NAME: facts.operation,
        names.PROVIDER_NAME: names.PROVIDER,
        names.REQUEST_MODEL: facts.public_name,
        "headgate.request.id": facts.id,
        "headgate.code": facts.code,
        "headgate.region": region,
        "headgate.tenant": facts.tenant,
        "headgate.key": facts.key,
        "headgate.namespace": facts.namespace,
        "headgate.model": facts.model,
        "headgate.route": facts.route,
        "headgate.attempts": facts.attempts,
        "headgate.idempotency": facts.idempotency,
        "headgate.deadline_left_ms": facts.deadline_left_ms,
    }
    error = facts.code if facts.failed else None
    return Span(
        name=f"{told.method} {told.path}",
        kind="server",
        span_id=told.trace.span_id,
        parent_id=told.trace.parent_id,
        started=clock.ns(told.timeline.started),
        ended=clock.ns(clock.ended),
        attributes=_attributes(given, error),
        error=error,
    )


def _stages(told: Told, clock: _Clock, ids: Callable[[], int]) -> list[Span]:
    """Each began when the one before ended. If nobody was asked, the last one refused."""
    timeline, facts = told.timeline, told.facts
    refused = facts.code if not timeline.attempts and facts.code != "ok" else None
    found = [
        Span(
            name=f"stage {name}",
            kind="internal",
            span_id=ids(),
            parent_id=told.trace.span_id,
            started=clock.ns(before),
            ended=clock.ns(ended),
            attributes={"headgate.stage": name},
        )
        for (_, before), (name, ended) in pairwise([("", timeline.started), *timeline.stages])
    ]
    if found and refused is not None:
        error = refused if facts.failed else None
        attributes = _attributes({**found[-1].attributes, "headgate.code": refused}, error)
        found[-1] = msgspec.structs.replace(found[-1], attributes=attributes, error=error)
    return found


def _attempt(told: Told, clock: _Clock, number: int, attempt: Attempt) -> Span:
    facts, cohort = told.facts, attempt.cohort
    given: dict[str, Value | None] = {
        names.OPERATION_NAME: facts.operation,
        names.PROVIDER_NAME: names.PROVIDER,
        names.REQUEST_MODEL: facts.public_name,
        names.REQUEST_STREAM: True,  # also for a plain answer: only streams can be cancelled
        names.RESPONSE_MODEL: cohort.served_model,
        "headgate.pod": attempt.pod,
        "headgate.variant": cohort.variant,
        "headgate.revision": cohort.revision,
        "headgate.runtime": cohort.runtime,
        "headgate.attempt": number,
        "headgate.hedge": attempt.hedge,
        "headgate.result": attempt.result or facts.code,
    }
    if attempt.first_text is not None:
        given[names.RESPONSE_TIME_TO_FIRST_CHUNK] = attempt.first_text - attempt.started
    usage = attempt.usage
    if usage is not None:  # one of several answers
        given["headgate.model"] = attempt.model
        given[names.USAGE_INPUT_TOKENS] = None if usage.estimated else usage.input_tokens
        given[names.USAGE_OUTPUT_TOKENS] = usage.output_tokens
    elif attempt.result == "ok":  # the only one: tokens are told once
        # The conventions forbid to tell what is only estimated.
        given[names.USAGE_INPUT_TOKENS] = None if facts.tokens_estimated else facts.input_tokens
        given[names.USAGE_OUTPUT_TOKENS] = facts.output_tokens
        given[names.USAGE_CACHED_TOKENS] = facts.cached_tokens
        given[names.USAGE_REASONING_TOKENS] = facts.reasoning_tokens
        if facts.finish_reason is not None:
            given[names.RESPONSE_FINISH_REASONS] = (facts.finish_reason,)
    result = attempt.result or facts.code
    error = None if result in BLAMELESS else result
    return Span(
        name=f"{facts.operation} {facts.public_name or facts.model}",
        kind="client",
        span_id=attempt.span,
        parent_id=told.trace.span_id,
        started=clock.ns(attempt.started),
        ended=clock.ns(clock.ended if attempt.ended is None else attempt.ended),
        attributes=_attributes(given, error),
        error=error,
    )


def _attributes(given: Mapping[str, Value | None], error: str | None) -> dict[str, Value]:
    told = {name: value for name, value in given.items() if value is not None}
    if error is not None:
        told[names.ERROR_TYPE] = error
    return told
