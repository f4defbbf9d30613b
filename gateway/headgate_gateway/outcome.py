"""What there is to tell about an answer once it is given: to the log, to metrics and in a trace."""

from datetime import UTC, datetime
from typing import final

from headgate_gateway.calls.events import End
from headgate_gateway.request import Request
from headgate_gateway.streaming.watch import Watch
from headgate_gateway.telemetry.facts import OK, Facts, Try
from headgate_gateway.telemetry.names import OPERATIONS
from headgate_gateway.timeline import Attempt, Timeline


@final
class Outcome:
    """Written while the answer is given."""

    __slots__ = ("code", "end", "idempotency", "status", "watch")

    def __init__(self) -> None:
        self.status = 0  # HTTP; 0: the client left before there was one
        self.code = ""  # reason code; empty: all went well
        self.end: End | None = None
        self.idempotency: str | None = None  # what became of the request's key
        self.watch: Watch | None = None  # of a stream in segments

    def fail(self, code: str, status: int) -> None:
        """Note why it failed. A status that the client has stays."""
        self.code, self.status = code, self.status or status


def facts_of(request: Request, outcome: Outcome, timeline: Timeline, seconds: float) -> Facts:
    facts = Facts(
        level="info",
        time=datetime.now(UTC),
        id=request.id,
        trace_id=request.trace.hex,
        status=outcome.status,
        code=outcome.code or OK,
        duration_s=int(seconds * 1e4) / 1e4,
        operation=OPERATIONS.get(request.head.path, ""),
        stages_ms=dict(zip(timeline.names, map(float, timeline.written()), strict=False)),
        idempotency=outcome.idempotency,
    )
    credential = getattr(request, "credential", None)  # what the stages came to
    if credential is not None:
        key, tenant = credential.key, credential.tenant
        facts.tenant, facts.key, facts.user = tenant.name, key.name, key.user
    model = getattr(request, "model", None)
    if model is not None:
        identity = model.identity
        facts.namespace, facts.model = identity.namespace, identity.name
    if request.route is not None:
        facts.namespace, facts.route = request.route.identity.namespace, request.label
    if model is not None or request.route is not None:
        facts.public_name = request.asked.model  # a name of ours, as it led somewhere
        facts.stream = request.asked.streams
    if request.fitted is not None:
        facts.context = request.fitted.told().decode()
    deadline = getattr(request, "deadline", None)
    if deadline is not None:
        facts.deadline_left_ms = int((deadline.ends_at - timeline.started - seconds) * 1000)
    return facts


def usual_facts(request: Request, outcome: Outcome) -> Facts:
    """Find what there is to tell of a request for which all went as usual."""
    facts = facts_of(request, outcome, request.timeline, 0.0)
    (attempt,) = request.timeline.attempts
    facts.attempts, facts.cohort = 1, attempt.cohort.name
    if outcome.end is not None:
        facts.finish_reason = outcome.end.finish_reason
        facts.tokens_estimated = outcome.end.usage.estimated
    return facts


def try_of(attempt: Attempt, started: float) -> Try:
    ended = attempt.started if attempt.ended is None else attempt.ended
    ms = round((ended - attempt.started) * 1000, 1)
    at_ms = round((attempt.started - started) * 1000, 1)
    return Try(
        pod=attempt.pod,
        result=attempt.result,
        ms=ms,
        at_ms=at_ms,
        hedge=attempt.hedge,
        model=attempt.model,
        output_tokens=None if attempt.usage is None else attempt.usage.output_tokens,
    )
