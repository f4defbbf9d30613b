"""Answers to `POST`s: from a whole request to the last byte of its answer."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from math import floor
from typing import Any, Final, final

from headgate_api.snapshot import Cohort, Identity
from headgate_gateway.calls.fixed import Fixed
from headgate_gateway.calls.source import Source
from headgate_gateway.edge.errors import refuse
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.edge.heads import EXPLAIN
from headgate_gateway.explain.header import explanation
from headgate_gateway.idempotency.keyed import HEADER, Idempotency, leave
from headgate_gateway.idempotency.recording import replay
from headgate_gateway.idempotency.store import Kept
from headgate_gateway.outcome import Outcome
from headgate_gateway.pipeline import Pipeline, decided
from headgate_gateway.refusals import PASS, Code, Pass, Refusal, Verdict
from headgate_gateway.request import Request
from headgate_gateway.routing.asking import begin
from headgate_gateway.routing.course import Course
from headgate_gateway.routing.tables import Tables
from headgate_gateway.routing.trial import Ground
from headgate_gateway.snapshots import Snapshots
from headgate_gateway.streaming.delivery import Delivery
from headgate_gateway.streaming.surfaces import SURFACES
from headgate_gateway.telemetry.trace_context import Sampler
from headgate_gateway.teller import Teller
from headgate_gateway.timeline import Timeline

MOST_LABELS: Final = 10_000
NO_TABLES: Final = Tables()
NOBODY: Final = Identity(kind="ModelDeployment", namespace="", name="")
"""Stands for the model where none is asked."""
OVERLOADED: Final = Refusal(
    Code.GATEWAY_OVERLOADED, 503, "The gateway serves as many requests as it can.", retry_after=1
)


@dataclass(slots=True)
class Inference:
    """Handles one exchange per call; all of them share what is here."""

    snapshots: Snapshots
    entry: Pipeline  # who asks for what
    idempotency: Idempotency
    pipeline: Pipeline  # whether and how it is served
    ground: Ground
    sampler: Sampler
    teller: Teller
    labels: "Labels"
    most: int  # requests at once
    requests: dict[str, Request] = field(default_factory=dict)  # in work, by id
    calls: set[Source] = field(default_factory=set)  # in work

    def __call__(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        return Answer(self, exchange).give()

    def stop(self, refusal: Refusal) -> None:
        """End every call now; clients are told why."""
        for call in list(self.calls):
            call.stop(refusal)


@final
class Answer:
    """One answer while it is given."""

    __slots__ = ("_call", "_clock", "_shared", "exchange", "outcome", "request")

    def __init__(self, shared: Inference, exchange: Exchange) -> None:
        self._shared = shared
        self.exchange = exchange
        self._clock = time.monotonic  # the event loop's stands still within a turn
        self.request = shared.snapshots.request(
            exchange, shared.sampler.begin(exchange.head.headers), time.time(), self._clock()
        )
        self._call: Source | None = None
        self.outcome = Outcome()

    async def give(self) -> None:
        shared, request = self._shared, self.request
        shared.requests[request.id] = request
        try:
            found = self._decide()
            verdict = found if isinstance(found, Pass | Refusal) else await found
            if verdict is PASS:
                refusal = await self._serve()
                if refusal is not None:
                    self._refuse(refusal)
            elif isinstance(verdict, Refusal):
                self._refuse(verdict)
            else:
                self.outcome.status, self.outcome.idempotency = 200, "replayed"
                await replay(self.exchange, verdict, self._labels("idempotency"))
        except asyncio.CancelledError as cancelled:
            self.outcome.code = "client_closed"
            request.timeline.left = next(iter(cancelled.args), None)
            raise
        except Exception:  # the service counts it and tells the client
            self.outcome.fail(Code.INTERNAL_ERROR, 500)
            raise
        finally:
            if self._call is not None:
                shared.calls.discard(self._call)
                self._call.close()
            if request.plan is not None:
                request.plan.features.forget()  # no cycle is to keep both in memory
            del shared.requests[request.id]
            leave(self.exchange)
            request.timeline.ended = self._clock()
            shared.teller.tell(request, self._call, self.outcome)

    def _decide(self) -> Verdict | Coroutine[Any, Any, Verdict | Kept]:
        """Ask the stages. It is awaited only where one waits, as is a request with a key."""
        shared, request = self._shared, self.request
        if len(shared.calls) >= shared.most:
            return OVERLOADED
        verdict = shared.entry.ask(request)
        if verdict is PASS and HEADER not in request.head.headers:
            return shared.pipeline.ask(request)
        return verdict if isinstance(verdict, Refusal) else self._decide_later(verdict)

    async def _decide_later(self, entry: Verdict | Coroutine[Any, Any, Verdict]) -> Verdict | Kept:
        request = self.request
        verdict = await decided(entry)
        if verdict is PASS and HEADER in request.head.headers:
            entered = await self._enter()
            if entered is not PASS:
                return entered
        return verdict if verdict is not PASS else await decided(self._shared.pipeline.ask(request))

    def _serve(self) -> Coroutine[Any, Any, Refusal | None]:
        """Give the answer. `Refusal`: why there is none."""
        shared, request = self._shared, self.request
        request.tables = NO_TABLES  # a long stream must not keep old policies in memory
        call = self._call = self._source()
        shared.calls.add(call)
        delivery = Delivery(
            call=call,
            surface=SURFACES[request.head.path],
            exchange=self.exchange,
            request=request,
            outcome=self.outcome,
            labels=self._call_labels,
            clock=self._clock,
        )
        return delivery.stream() if request.asked.streams else delivery.whole()

    def _source(self) -> Source:
        """Find what the answer comes from."""
        shared, request = self._shared, self.request
        if request.plan is not None:
            return Course(shared.ground, request, request.plan)
        if request.rule.respond is not None:
            return Fixed(request.rule.respond)
        return begin(shared.ground.backends, request, plain=not request.asked.streams)

    async def _enter(self) -> Verdict | Kept:
        """Let one request with this Idempotency-Key through; from here on it leaves a record."""
        request, tenant = self.request, self.request.credential.tenant
        owner = f"{tenant.namespace}/{tenant.name}"
        timeline = request.timeline
        timeline.waits = "idempotency"
        entered = await self._shared.idempotency.enter(owner, request.head.path, self.exchange)
        timeline.end_stage("idempotency", self._clock())
        if isinstance(entered, Refusal | Kept):
            return entered
        self.exchange, self.outcome.idempotency = entered, "claimed"
        # It took a while, and what was in force before may lead to pods that are gone.
        request.tables = self._shared.snapshots.tables
        return PASS

    def _refuse(self, refusal: Refusal) -> None:
        self.outcome.fail(refusal.code, refusal.status)
        stages = self.request.timeline.stages
        stage = "call" if self._call is not None else stages[-1][0] if stages else "edge"
        refuse(self.exchange, refusal, self._labels(stage))

    def _call_labels(self) -> bytes:
        return self._labels("call")

    def _labels(self, stage: str) -> bytes:
        """What decided about this answer, for whoever debugs it: as much as is known."""
        request, call = self.request, self._call
        cohort = call.cohort if call is not None else None
        timing = server_timing(request.timeline, self._clock())
        labels = b"%sx-headgate-stage: %s\r\nserver-timing: %s\r\n" % (
            self._shared.labels.of(request, cohort),
            stage.encode(),
            timing,
        )
        if request.fitted is not None:
            labels += b"x-headgate-context: %s\r\n" % request.fitted.told()
        if EXPLAIN in request.head.headers:
            labels += explanation(request)
        return labels


@final
class Labels:
    """Header lines that name what decided about an answer. They are few, and made once each."""

    def __init__(self, region: str) -> None:
        self._fixed = b"x-headgate-region: %s\r\nx-headgate-mode: Full\r\n" % region.encode()
        self._made: dict[tuple[str, ...], bytes] = {}

    def of(self, request: Request, cohort: Cohort | None) -> bytes:
        model = getattr(request, "model", None)
        if model is None and request.route is None:
            return self._fixed
        identity = NOBODY if model is None else model.identity
        cohort_name = cohort.name if cohort is not None else ""
        key = (identity.namespace, identity.name, request.label, cohort_name)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= MOST_LABELS:
                self._made.clear()
            made = self._made[key] = self._fixed + _named(key, cohort)
        return made


def _named(key: tuple[str, ...], cohort: Cohort | None) -> bytes:
    _, model, route, _ = key
    found = b"x-headgate-route: %s\r\n" % route.encode()
    if model:
        found += b"x-headgate-model: %s\r\n" % model.encode()
    if cohort is not None:
        found += b"x-headgate-variant: %s\r\n" % cohort.variant.encode()
        found += b"x-headgate-revision: %s\r\n" % cohort.revision.encode()
    return found


def server_timing(timeline: Timeline, now: float) -> bytes:
    """Tell how long each stage took, in ms, as browsers and SDKs show it.

    >>> timeline = Timeline(1.0)
    >>> timeline.names, timeline.seconds = ("identity", "parse"), [0.001, 0.0005]
    >>> timeline.at = 1.0015
    >>> server_timing(timeline, 1.0515)
    b'identity;dur=1.0, parse;dur=0.5, call;dur=50.0'
    """
    tenths = floor(1e4 * (now - (timeline.at or timeline.started)))
    stages = f"{timeline.timed()}, " if timeline.seconds else ""
    return f"{stages}call;dur={tenths // 10}.{tenths % 10}".encode()
