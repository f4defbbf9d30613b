"""A request whose first answer need not be its last: stages of a cascade, and fallbacks.

Routes are taken one after another, each at most once, under the request's one deadline. What has to
be accepted is held until it is; everything else is given as it comes. As soon as the client may
have seen something nothing is tried again. A rejected answer is never shown, whatever follows.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from headgate_api.snapshot import Cohort, Trigger
from headgate_gateway.calls.attempt import Attempt
from headgate_gateway.calls.events import NOTHING, End, Event, Failed, Usage, Waiting
from headgate_gateway.calls.source import Give, Source
from headgate_gateway.refusals import Refusal
from headgate_gateway.request import Request
from headgate_gateway.routing.following import Trouble, fallback
from headgate_gateway.routing.plan import Plan
from headgate_gateway.routing.router import errors
from headgate_gateway.routing.routes import Step
from headgate_gateway.routing.stage import Result, Stage
from headgate_gateway.routing.trial import Given, Ground, Signature, Trial
from headgate_gateway.waking import Signal

CANCELLED: Final = "cancelled"
"""Why a stage was stopped whose client has left."""
UNASKED: Final = "its `when` does not hold"


class Course(Source):
    """See `Source`. A task runs it until an answer is found; from then on it only hands on."""

    def __init__(self, ground: Ground, request: Request, plan: Plan) -> None:
        self._ground = ground
        self._request = request
        self._route = plan.route
        self._decision = plan.decision
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._clock = ground.backends.clock

        # Towards the client
        self._events: deque[Event] = deque()  # that it may have
        self._open: Source | None = None  # whose events it gets as they come
        self._news = Signal()
        self._beat = min(ground.backends.patience.beat, request.deadline.beat)
        self._timer = self._loop.call_later(self._beat, self._ring)

        # Towards the models
        self._tried: set[str] = set()
        self._failed: list[Signature] = []
        self._trial: Trial | None = None
        self._stage: Stage | None = None  # that has not ended
        self._answering: Source | None = None  # who is to answer, or did
        self._work = self._loop.create_task(self._run())
        self._work.add_done_callback(self._wake)

    @property
    def last(self) -> Attempt | None:
        return self._answering.last if self._answering is not None else None

    @property
    def cohort(self) -> Cohort | None:
        return self._answering.cohort if self._answering is not None else None

    @property
    def usage(self) -> Usage:
        return self._answering.usage if self._answering is not None else NOTHING

    def take(self) -> Event | None:
        if self._events:
            return self._events.popleft()
        if self._open is not None:
            event = self._open.take()
            if isinstance(event, End | Failed):
                self._handed_on(event)
            return event
        if self._work.done():
            self._work.result()  # raises what nobody foresaw
        return None

    def news(self, give: Give | None = None) -> Signal:
        if self._open is not None:
            return self._open.news(give)
        return self._news

    def stop(self, refusal: Refusal) -> None:
        if self._open is not None:
            self._open.stop(refusal)
        elif not self._work.done():
            self._leave(refusal.code)
            self._give(Failed(refusal))

    def close(self) -> None:
        self._leave(CANCELLED)
        if self._open is not None:
            self._open.close()

    def _leave(self, reason: str) -> None:
        """Let go of all that is still being done."""
        self._timer.cancel()
        self._work.cancel()
        if self._trial is not None:
            self._answering = self._trial.answering or self._answering
            self._trial.close()
            self._trial = None
        if self._stage is not None:
            self._finish(self._stage, "stopped", reason)

    def _wake(self, *_: object) -> None:
        self._news.fire()

    def _ring(self) -> None:
        """The client has heard nothing for a while."""
        if not self._events:
            self._events.append(Waiting(f"stage {self._request.rule.name}"))
            self._wake()
        self._timer = self._loop.call_later(self._beat, self._ring)

    def _give(self, *events: Event) -> None:
        self._timer.cancel()
        self._events.extend(events)
        self._wake()

    def _handed_on(self, event: End | Failed) -> None:
        """The answer that was given as it came has ended."""
        stage = self._decision.stages[-1]
        if isinstance(event, End):
            stage.tokens = event.usage.tokens
            if self.last is not None:
                self.last.record.usage = event.usage
        elif self._stage is not None:
            self._finish(stage, "failed", event.refusal.code)
        if self._stage is not None:
            self._finish(stage, "given")

    # One route after another

    async def _run(self) -> None:
        # A task keeps what it was cancelled by. That knows of its frames, they of us, and we of it.
        with suppress(asyncio.CancelledError):
            await self._go()

    async def _go(self) -> None:
        step: Step | None = self._plan.first
        trigger: Trigger | None = None
        trouble: Trouble | None = None
        while step is not None:
            stage = self._begin(step, trigger)
            found = await self._try(step, stage, trouble)
            if isinstance(found, Given):
                self._answered(step, stage, found)
                return
            trouble = found
            step, trigger = self._following(step, trouble)
        assert trouble is not None  # noqa: S101 - there is a first step
        self._give(Failed(trouble.refusal))

    async def _try(self, step: Step, stage: Stage, before: Trouble | None) -> Given | Trouble:
        trial = self._trial = Trial(
            ground=self._ground,
            request=self._request,
            plan=self._plan,
            step=step,
            stage=stage,
            before=before,
            failed=self._failed,
        )
        found = await trial.run()
        self._answering = trial.answering or self._answering
        self._trial = None
        trial.close()
        if isinstance(found, Trouble):
            self._finish(stage, self._result(stage, found), found.wrong or found.refusal.code)
        return found

    def _result(self, stage: Stage, trouble: Trouble) -> Result:
        if len(self._request.timeline.attempts) == stage.attempts[0]:
            return "skipped"
        return "rejected" if trouble.trigger == "Rejected" else "failed"

    def _answered(self, step: Step, stage: Stage, given: Given) -> None:
        self._open = given.call
        if step.rule.respond is not None:
            self._answering = None  # no model server has
        if self._open is None:
            self._finish(stage, "given" if step.accept is None else "accepted")
        elif isinstance(given.events[-1], End):
            self._handed_on(given.events[-1])
        self._give(*given.events)

    def _following(self, step: Step, trouble: Trouble) -> tuple[Step | None, Trigger | None]:
        """Find the route that is next, and why."""
        trigger = trouble.trigger
        if trigger is None or self._clock() >= self._request.deadline.stop_at:
            return None, None
        found = fallback(self._route, step, trigger, self._tried)
        return (found, trigger) if found is not None else (self._next_stage(), None)

    def _next_stage(self) -> Step | None:
        """Find the next stage of a cascade that takes this request."""
        if self._route.body.architecture != "Cascade":
            return None
        features, decision = self._plan.features, self._decision
        for step in self._route.entries:
            if step.rule.name in self._tried or step.number < self._plan.first.number:
                continue
            takes = step.when is None or step.when.holds(features)
            decision.errors = errors(self._route, step.number + 1, features)
            decision.words = features.read()
            if takes:
                return step
            self._finish(self._begin(step, None), "skipped", UNASKED)
        return None

    def _begin(self, step: Step, trigger: Trigger | None) -> Stage:
        self._tried.add(step.rule.name)
        self._request.rule = step.rule
        now, count = self._clock(), len(self._request.timeline.attempts)
        stage = self._stage = Stage(
            route=step.rule.name, trigger=trigger, started=now, attempts=(count, count)
        )
        self._decision.stages.append(stage)
        return stage

    def _finish(self, stage: Stage, result: Result, reason: str = "") -> None:
        """Note how a stage has ended."""
        self._stage = None
        attempts, began = self._request.timeline.attempts, stage.attempts[0]
        stage.result, stage.reason, stage.ended = result, reason, self._clock()
        stage.attempts = (began, len(attempts))
        for attempt in attempts[began:]:
            attempt.model = attempt.model or stage.model
        metrics, label = self._ground.metrics, self._route.steps[stage.route].label
        metrics.route_stages.of(label, result).add()
        metrics.route_stage_seconds.of(label).observe(stage.ended - stage.started)
