"""The pipeline: stages asked in order, each with a name, a time budget and a default answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Protocol

from headgate_gateway.calls.deadline import EXCEEDED
from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import PASS, Refusal, Verdict
from headgate_gateway.request import Request
from headgate_gateway.waking import in_task


class Stage(Protocol):
    name: ClassVar[str]  # one word for the metric label and the log key
    undecided: ClassVar[Refusal]  # the answer when the budget runs out: never a pass by silence
    budget: ClassVar[float]  # s

    def decide(self, request: Request) -> Verdict | Awaitable[Verdict]: ...


class Pipeline:
    """Asks the stages about a request.

    No stage writes to the exchange. The service turns the one refusal into a response, so that no
    stage can forget the OpenAI error body, `Retry-After` or the log entry.

    A stage has its own time, or what the route's policy gives it, and never more than is left of
    the request's. When a stage ends is noted in the request's timeline.
    """

    def __init__(
        self, stages: Sequence[Stage], metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._names = tuple(stage.name for stage in stages)
        self._stages = [(stage.decide, stage) for stage in stages]
        self._refusals = metrics.refusals
        self._clock = clock

    async def ask(self, request: Request) -> Verdict:
        timeline, clock = request.timeline, self._clock
        timeline.names += self._names
        note, before = timeline.seconds.append, timeline.at or timeline.started
        for decide, stage in self._stages:
            verdict = decide(request)
            if verdict is not PASS:
                # A timer costs dozens of bare awaits, so only a stage that waits gets one.
                if not isinstance(verdict, Refusal):
                    verdict = await self._wait(stage, request, verdict)
                if verdict is not PASS:
                    assert isinstance(verdict, Refusal)  # noqa: S101 - there is no third answer
                    break
            now = clock()
            note(now - before)
            before = now
        else:
            timeline.at = before
            return PASS
        timeline.at = clock()
        note(timeline.at - before)
        self._refusals.of(stage.name, verdict.code).add()
        return verdict

    async def _wait(self, stage: Stage, request: Request, verdict: Awaitable[Verdict]) -> Verdict:
        request.timeline.waits = stage.name
        seconds, late = stage.budget, stage.undecided
        deadline = getattr(request, "deadline", None)  # a stage before has found it
        if deadline is not None:
            seconds = min(seconds, request.policy.deadlines.stages.get(stage.name, seconds))
            left = deadline.stop_at - self._clock()
            if left < seconds:
                seconds, late = left, EXCEEDED.refusal
        await in_task()
        try:
            async with asyncio.timeout(seconds):
                return await verdict
        except TimeoutError:
            return late
