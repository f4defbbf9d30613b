"""One route of a course, tried: its target, its prompt, its answer, and whether that will do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, TypeGuard

from headgate_api.snapshot import RouteRule
from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.allowance import SPENT
from headgate_gateway.calls.ask import Backends
from headgate_gateway.calls.call import Call
from headgate_gateway.calls.deadline import EXCEEDED
from headgate_gateway.calls.events import (
    MOST_KEPT,
    NOTHING,
    End,
    Event,
    Failed,
    Text,
    Waiting,
    weight,
)
from headgate_gateway.calls.failures import INVALID
from headgate_gateway.calls.source import Source
from headgate_gateway.context.chat import Found
from headgate_gateway.context.prepare import Preparation
from headgate_gateway.context.write_prompt import BUDGET, NAME, UNDECIDED
from headgate_gateway.edge.asked import Asked, Generation
from headgate_gateway.edge.chat_request import ChatRequest, Message
from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.request import Request
from headgate_gateway.routing.accept import Answer, flaws
from headgate_gateway.routing.asking import ask_another, begin
from headgate_gateway.routing.following import NOT_ACCEPTED, Trouble, mendable
from headgate_gateway.routing.plan import Plan
from headgate_gateway.routing.router import settle
from headgate_gateway.routing.routes import Step
from headgate_gateway.routing.stage import Stage
from headgate_gateway.routing.tables import Model
from headgate_gateway.routing.targets import Models, Targets
from headgate_gateway.routing.verify import repair, score, verification
from headgate_gateway.values import replaced
from headgate_policy.cel import Rule

MENDABLE: Final = 32 * 1024
"""Characters of an answer that its model is shown again."""
REPEATED: Final = "it would be the call that has failed"
FORM: Final = "it is not in the form that was asked for"
UNMET: Final = "it is not what is asked of an answer here"
Signature: TypeAlias = tuple[object, ...]
"""All that makes a call what it is: the same again would fail the same way."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all courses share."""

    backends: Backends
    targets: Targets
    preparation: Preparation
    metrics: Metrics
    models: Callable[[str], Models]
    """Of a namespace, as they are now: what was ready when a request came may be gone."""


class Given(NamedTuple):
    """What the client may have."""

    events: Sequence[Event]
    call: Source | None = None
    """What follows comes from here, as it comes."""


@dataclass(slots=True, kw_only=True)
class Trial:
    """`run()` once, then `close()`, whatever happened."""

    ground: Ground
    request: Request
    """It goes this way."""
    plan: Plan
    step: Step
    """The route that is tried."""
    stage: Stage
    """Gets what there is to tell."""
    before: Trouble | None
    """How the route before has failed."""
    failed: list[Signature]
    """Calls that have. This one is added if it does."""
    answering: Source | None = None
    """Who is to answer."""
    _running: Source | None = None  # to be closed
    _unjudged: Refusal | None = None  # why no verifier could be asked: nothing is left for it

    async def run(self) -> Given | Trouble:
        request, rule = self.request, self.step.rule
        verdict = settle(request, self.step, self.stage, self._models, self.ground.targets)
        if isinstance(verdict, Refusal):
            return Trouble(verdict)
        if rule.respond is not None:
            request.forget_model()
            return Given((Text(rule.respond), End("stop", NOTHING)))
        task = await self._prepare()
        if isinstance(task, Refusal):
            return Trouble(task)
        request.task = task
        this = (request.model.pool, *request.cohorts, task.sampling, task.prompt, task.body)
        if this in self.failed:
            return Trouble(self.before.refusal if self.before else NOT_ACCEPTED, wrong=REPEATED)
        hold = self.step.accept is not None or not request.asked.streams
        asked = self._running = self.answering = begin(self.ground.backends, request, plain=hold)
        found = await (self._hold(asked) if hold else self._hand_on(asked))
        if isinstance(found, Trouble):
            self.failed.append(this)
        return found

    def close(self) -> None:
        """Let go of the model server, if one is at work for this."""
        call, self._running = self._running, None
        if call is not None:
            call.close()

    @property
    def _models(self) -> Models:
        return self.ground.models(self.plan.route.identity.namespace)

    # Before

    async def _prepare(self) -> Task | Refusal:
        """Write the prompt, with what was wrong with the last answer if it was this model's."""
        request, stage = self.request, self.stage
        more: tuple[Message, ...] = ()
        if self._mends(self.before):
            more, stage.repair = repair(self.before.text, self.before.wrong), True
        found = await self._written(
            request.asked, request.model, self.step.rule, request.body, more
        )
        if isinstance(found, Refusal):
            return found
        request.fitted, task = found.fitted, found.task
        if self._adds_logprobs:
            changed = {**task.changed, "logprobs": True}
            task = replaced(task, changed=changed, logprobs=True)
        if task.form is not None and mendable(self.plan.route, self.step, stage.model):
            # An answer in the wrong form is wanted, too: the model is shown it.
            task = replaced(task, form=replaced(task.form, hold=False))
        return task

    def _mends(self, before: Trouble | None) -> TypeGuard[Trouble]:
        """Say whether the model is shown its last answer: once in a request."""
        if before is None or before.model != self.stage.model:
            return False
        if not 0 < len(before.text) <= MENDABLE:
            return False
        repaired = any(stage.repair for stage in self.plan.decision.stages)
        return isinstance(self.request.asked, ChatRequest) and not repaired

    @property
    def _adds_logprobs(self) -> bool:
        """Whether the route wants log probabilities that the client does not want."""
        asked = self.request.asked
        return self.step.logprobs and isinstance(asked, ChatRequest) and not asked.logprobs

    async def _written(
        self,
        asked: Asked,
        model: Model,
        rule: RouteRule,
        body: bytes,
        more: tuple[Message, ...] = (),
    ) -> Found:
        allowance = self.request.allowance
        found = self.ground.preparation.prepare(
            asked,
            model,
            rule,
            body=body,
            now=self.request.now,
            more=more,
            counts=allowance is not None and allowance.tokens is not None,
        )
        if not isinstance(found, Awaitable):
            return found
        left = self.request.deadline.stop_at - self.ground.backends.clock()
        stages = self.request.policy.deadlines.stages
        most = min(BUDGET, stages.get(NAME, BUDGET))
        try:
            async with asyncio.timeout(min(left, most)):
                return await found
        except TimeoutError:
            return UNDECIDED if most < left else EXCEEDED.refusal

    # The answer

    async def _hand_on(self, call: Source) -> Given | Trouble:
        """Wait for the first of an answer. What follows is the client's."""
        event = await following(call)
        if isinstance(event, Failed):
            return Trouble(event.refusal)
        self._running = None
        return Given((event,), call)

    async def _hold(self, call: Source) -> Given | Trouble:
        """Wait for the whole answer, and judge it."""
        events: list[Event] = []
        kept = 0
        while not isinstance(event := await following(call), End | Failed):
            events.append(event)
            kept += weight(event)
            if kept > MOST_KEPT:
                break
        self.stage.tokens = _spent(call, event)
        if isinstance(event, Failed):
            return self._failure(event.refusal, events)
        if not isinstance(event, End):
            return Trouble(INVALID.refusal)
        self.close()
        answer = Answer(events, event, self.request.asked, self.request.task)
        if self.step.accept is not None and isinstance(self.request.asked, Generation):
            accepted = await self._accepts(self.step.accept, answer)
            self.stage.words = answer.read()
            if not accepted and self._unjudged is not None:
                return Trouble(self._unjudged)
            if not accepted:
                wrong = ", ".join(flaws(self.stage.words)) or UNMET
                return Trouble(NOT_ACCEPTED, wrong, answer.text, self.stage.model)
        if self._adds_logprobs:
            events = [Text(e.text) if isinstance(e, Text) else e for e in events]
        return Given((*events, event))

    def _failure(self, refusal: Refusal, events: Sequence[Event]) -> Trouble:
        if refusal.code != Code.INVALID_OUTPUT:
            return Trouble(refusal)
        text = "".join(event.text for event in events if isinstance(event, Text))
        return Trouble(refusal, FORM, text, self.stage.model)

    async def _accepts(self, rule: Rule, answer: Answer) -> bool:
        """Judge an answer. The verifier is asked if the rule comes to its score, and only then."""
        accepted = await _judged(rule, answer)
        if answer.wants_score:
            answer.scored(await self._score(answer.text))
            accepted = await _judged(rule, answer)
        return accepted

    async def _score(self, text: str) -> float | None:
        """Ask the route's verifier. None: it has none, or it gave no score."""
        verifier, request = self.step.rule.verifier, self.request
        model = self._models.get(verifier.model) if verifier is not None else None
        if verifier is None or model is None:
            return None
        asked, rule, body = verification(verifier, request.asked, text)
        found = await self._written(asked, model, rule, body)
        if isinstance(found, Refusal):
            return None
        attempts = request.timeline.attempts
        count = len(attempts)
        whom = ask_another(request, model, found.task)
        call = self._running = Call(self.ground.backends, whom, request.timeline)
        said = ""
        try:
            while not isinstance(event := await following(call), End | Failed):
                if isinstance(event, Text):
                    said += event.text
        finally:
            for attempt in attempts[count:]:
                attempt.model = model.identity.name
        _spent(call, event)
        self.close()
        if isinstance(event, Failed) and event.refusal.code in SPENT:
            self._unjudged = event.refusal
        return score(said) if isinstance(event, End) else None


async def following(source: Source) -> Event:
    """Wait for the next event that is more than a sign of life."""
    while True:
        event = source.take()
        if event is None:
            await source.news()
        elif not isinstance(event, Waiting):
            return event


async def _judged(rule: Rule, answer: Answer) -> bool:
    if answer.slow:
        return await asyncio.to_thread(rule.holds, answer)
    return rule.holds(answer)


def _spent(call: Source, last: Event) -> tuple[int, int] | None:
    """Note the tokens of an answer, shown or not. None: nothing of one was written."""
    usage = last.usage if isinstance(last, End) else call.usage
    if call.last is None or not (isinstance(last, End) or usage.output_tokens):
        return None
    call.last.record.usage = usage
    return usage.tokens
