"""Tells what became of requests: the log, Prometheus, the operator, and whoever reads traces.

It is read from the request's timeline, and costs the client nothing: the answer has left.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

import msgspec

from headgate_api.snapshot import Identity
from headgate_gateway.calls.events import Usage
from headgate_gateway.calls.source import Source
from headgate_gateway.context.counting import Calibrations
from headgate_gateway.context.fit import Fitted
from headgate_gateway.explain.record import record
from headgate_gateway.explain.ring import Ring
from headgate_gateway.feedback import Feedback, count
from headgate_gateway.metrics import Metrics, Served
from headgate_gateway.outcome import Outcome, facts_of, try_of
from headgate_gateway.refusals import Code
from headgate_gateway.request import Request
from headgate_gateway.streaming.watch import tell as tell_stream
from headgate_gateway.telemetry import logs
from headgate_gateway.telemetry.facts import OK, Facts
from headgate_gateway.telemetry.spans import Told
from headgate_gateway.telemetry.tracing import Tracing
from headgate_gateway.timeline import STOPPED, Attempt, Timeline
from headgate_gateway.usual import DIRECT, Usual

FIRST: Final = frozenset({0})
_ENCODER: Final = msgspec.json.Encoder()


Ended: TypeAlias = tuple[Request, Source | None, Outcome]


@final
@dataclass(slots=True)
class Teller:
    """Tells outcomes to the log, to Prometheus, to the operator, and as traces.

    What ends in one turn of the event loop is told together, after all of it was answered: nobody's
    next request waits for it.
    """

    metrics: Metrics
    feedback: Feedback
    tracing: Tracing = field(default_factory=Tracing)
    write: Callable[[bytes], None] | None = logs.write  # None: no line per request
    ring: Ring = field(default_factory=Ring)  # for explanations
    calibrations: Calibrations = field(default_factory=Calibrations)  # of estimates
    _waiting: deque[Ended] = field(default_factory=deque)
    _usual: Usual = field(init=False)
    _loop: asyncio.AbstractEventLoop | None = None

    def __post_init__(self) -> None:
        self._usual = Usual(self.metrics, self.feedback)

    def tell(self, request: Request, call: Source | None, outcome: Outcome) -> None:
        """Tell about a request whose timeline has ended. `call`: it was to be served by a model."""
        if not self._waiting:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()  # a call of the kernel
            self._loop.call_soon(self._tell_all)
        self._waiting.append((request, call, outcome))

    def _tell_all(self) -> None:
        try:
            while self._waiting:
                self._tell(*self._waiting.popleft())
        except Exception:
            self.metrics.bugs.of().add()
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._tell_all)
            raise  # the event loop logs it

    def _tell(self, request: Request, call: Source | None, outcome: Outcome) -> None:
        watch = outcome.watch
        if (end := outcome.end) is not None and self._is_usual(request, outcome):
            self._learn(request, end.usage)
            line, kept = self._usual.tell(request, end, outcome)
        else:
            line = self._tell_in_full(request, call, outcome)
            kept = record(request, watch, line)
        if end is not None and end.usage.drafted_tokens is not None:
            self._count_drafts(request, call, end.usage)
        if watch is not None:
            tell_stream(self.metrics, request, watch, end)
        if self.write is not None:
            self.write(line)
        self.ring.keep(kept)

    def _is_usual(self, request: Request, outcome: Outcome) -> bool:
        """Whether there is nothing to tell of it but what there is of nearly all."""
        timeline, attempts = request.timeline, request.timeline.attempts
        if outcome.code or len(attempts) != 1:
            return False
        attempt, first = attempts[0], timeline.first_text
        return (
            request.plan is None
            and request.fitted is None
            and first is not None
            and attempt.result == OK
            and attempt.usage is None
            and not attempt.ejected
            and not self.tracing.wants(request.trace, first - timeline.started)
        )

    def _tell_in_full(self, request: Request, call: Source | None, outcome: Outcome) -> bytes:
        timeline = request.timeline
        assert timeline.ended is not None  # noqa: S101 - see above
        facts = facts_of(request, outcome, timeline, timeline.ended - timeline.started)
        metrics = self.metrics
        metrics.requests.of(str(outcome.status), outcome.code).add()
        for stage, seconds in zip(timeline.names, timeline.seconds, strict=False):
            metrics.stage_seconds.of(stage).observe(seconds)
        if outcome.code == Code.DEADLINE_EXCEEDED:
            stages = timeline.stages
            where = stages[-1][0] if call is None and stages else "call"
            metrics.deadline_exceeded.of(where).add()
        if request.fitted is not None:
            self._count_dropped(request.model.identity, request.fitted)
        if call is not None:
            self._tell_call(request, call, outcome, facts)
        if self.tracing.collector is not None:
            head = request.head
            self.tracing.end(
                Told(facts, timeline, request.trace, request.now, head.method, head.path)
            )
        return _ENCODER.encode(facts) + b"\n"

    def _tell_call(self, request: Request, call: Source, outcome: Outcome, facts: Facts) -> None:
        attempts = request.timeline.attempts
        facts.attempts = len(attempts)
        if not attempts:
            return
        if len(attempts) > 1:
            started = request.timeline.started
            facts.tries = tuple(try_of(attempt, started) for attempt in attempts)
        shown = call.last.record if call.last is not None and outcome.end is not None else None
        self._count_attempts(request, outcome, attempts, shown)
        if call.last is None:
            return  # a fixed answer, after models that failed
        last = call.last.record
        facts.cohort, facts.pod = last.cohort.name, last.pod
        identity, body = request.model.identity, request.model.body
        served = self.metrics.served(
            (
                identity.namespace,
                identity.name,
                last.cohort.variant,
                facts.route or DIRECT,
                facts.operation,
                request.asked.model,
                body.public_name,
            )
        )
        _count_answer(served, outcome, request.timeline, facts)
        if outcome.end is not None and request.fitted is None:
            self._learn(request, outcome.end.usage)
        if outcome.code:
            errors = self.metrics.genai.duration
            errors.of(*served.genai.labels, outcome.code).observe(facts.duration_s)

    def _learn(self, request: Request, usage: Usage) -> None:
        """Compare what a model counted with what would be estimated."""
        if not usage.estimated:
            size, counted = len(request.body), usage.input_tokens
            self.calibrations.learn(request.model.pool, request.asked, size, counted)

    def _count_drafts(self, request: Request, call: Source | None, usage: Usage) -> None:
        cohort, model = call.cohort if call is not None else None, request.model.identity
        if cohort is not None:
            drafted, accepted = usage.drafted_tokens or 0, usage.accepted_tokens or 0
            drafts = self.metrics.speculation.draft_tokens
            labels = (model.namespace, model.name, cohort.variant)
            drafts.of(*labels, "accepted").add(accepted)
            drafts.of(*labels, "rejected").add(drafted - accepted)

    def _count_dropped(self, model: Identity, fitted: Fitted) -> None:
        labels = (model.namespace, model.name)
        for kind, parts in fitted.dropped.items():
            self.metrics.context_dropped.of(*labels, kind).add(parts)
        self.metrics.context_dropped_tokens.of(*labels).add(fitted.dropped_tokens)

    def _count_attempts(
        self, request: Request, outcome: Outcome, attempts: list[Attempt], shown: Attempt | None
    ) -> None:
        metrics = self.metrics
        of = request.route if request.route is not None else request.model
        namespace, begun = of.identity.namespace, _begun(request)
        before: Attempt | None = None  # the newest of the same call that was no hedge
        for number, attempt in enumerate(attempts):
            result, cohort = attempt.result, attempt.cohort
            model = attempt.model or request.model.identity.name
            if number in begun:
                before = None
            usage = attempt.usage
            if usage is None and result == OK and outcome.end is not None:
                usage = outcome.end.usage
            metrics.attempts.of(namespace, model, cohort.variant, result).add()
            failed = result.startswith("upstream") and result != Code.UPSTREAM_REFUSED
            count(
                self.feedback.of(namespace, model, cohort.name),
                failed=failed,
                first_token=_first_token(attempt, request),
                usage=usage if result == OK else None,
            )
            if usage is not None and attempt is not shown:
                cohort_labels = (namespace, model, cohort.variant)
                metrics.tokens.of(*cohort_labels, "input").add(usage.input_tokens)
                metrics.tokens.of(*cohort_labels, "output").add(usage.output_tokens)
            if result in STOPPED:
                cause = outcome.code or OK if result == "cancelled" else result
                metrics.cancellations.of(cause).add()
                since = _since(request, result)
                if since is not None and attempt.ended is not None:
                    metrics.cancel_seconds.of().observe(max(0.0, attempt.ended - since))
            if attempt.ejected:
                metrics.ejections.of(namespace, model).add()
            if attempt.hedge:
                metrics.hedges.of("started").add()
                metrics.hedges.of("won" if attempt.first_text is not None else "lost").add()
            else:
                if before is not None:
                    metrics.retries.of(before.result).add()
                before = attempt


def _count_answer(served: Served, outcome: Outcome, timeline: Timeline, facts: Facts) -> None:
    """Add one answer, whole or not, to its model's series, and its numbers to the facts."""
    served.seconds.observe(facts.duration_s)
    first: float | None = None
    if timeline.first_text is not None:
        first = timeline.first_text - timeline.started
        facts.first_token_s = int(first * 1e4) / 1e4
        served.first_token.observe(first)
    end = outcome.end
    if end is None:
        served.genai.add_usages((None,))
        return
    usage = end.usage
    served.input.add(usage.input_tokens)
    served.output.add(usage.output_tokens)
    facts.input_tokens, facts.output_tokens = usage.input_tokens, usage.output_tokens
    facts.cached_tokens, facts.reasoning_tokens = usage.cached_tokens, usage.reasoning_tokens
    facts.tokens_estimated, facts.finish_reason = usage.estimated, end.finish_reason
    served.genai.add_usages((usage,))
    if outcome.code:
        return
    served.genai.duration.observe(facts.duration_s)
    if first is not None:
        served.genai.first.observe(first)
        if usage.output_tokens > 1:
            pace = (facts.duration_s - first) / (usage.output_tokens - 1)
            served.per_token.observe(pace)
            served.genai.per_token.observe(pace)


def _first_token(attempt: Attempt, request: Request) -> float | None:
    """Tell how long a client waited for a cohort's first text; one of several: how long we did."""
    timeline = request.timeline
    if attempt.first_text is None or timeline.first_text is None:
        return None
    if attempt.model:
        return attempt.first_text - attempt.started
    return timeline.first_text - timeline.started


def _begun(request: Request) -> frozenset[int]:
    """Find the attempts that began a call of their own, by number: they repeat nothing."""
    if request.plan is None:
        return FIRST
    attempts = request.timeline.attempts
    answered = (n for n, attempt in enumerate(attempts, 1) if attempt.result == OK)
    stages = request.plan.decision.stages
    return frozenset((*answered, *(stage.attempts[0] for stage in stages)))


def _since(request: Request, result: str) -> float | None:
    """From when on a stopped attempt was of no use. None: it was stopped at that very moment."""
    if result == "cancelled":
        return request.timeline.left
    return request.deadline.stop_at if result == Code.DEADLINE_EXCEEDED else None
