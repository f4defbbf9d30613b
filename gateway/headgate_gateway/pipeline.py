"""The pipeline: stages asked in order, each with a name, a time budget and a default answer."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, final

from headgate_gateway.calls.deadline import EXCEEDED
from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import PASS, Pass, Refusal, Verdict
from headgate_gateway.request import Request
from headgate_gateway.waking import in_task


class Stage(Protocol):
    name: str  # one word for the metric label and the log key
    undecided: Refusal  # the answer when the budget runs out: never a pass by silence
    budget: float  # s

    def decide(self, request: Request) -> Verdict | Awaitable[Verdict]: ...


@final
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
        self._before: tuple[str, ...] = ()
        """Names of the stages that the last request had come to before ours."""
        self._joined = self._names
        """With ours behind them: requests share it."""
        self._stages = list(stages)
        self._decide = [stage.decide for stage in stages]
        self._refusals = metrics.refusals
        self._clock = clock

    def ask(self, request: Request) -> Verdict | Coroutine[Any, Any, Verdict]:
        """Ask them all. It is awaited only where a stage waits: see `decided`."""
        timeline = request.timeline
        if timeline.names is not self._before:  # as of the request before
            self._before = timeline.names
            self._joined = timeline.names + self._names
        timeline.names = self._joined
        return self._go_on(request, 0)

    def _go_on(self, request: Request, first: int) -> Verdict | Coroutine[Any, Any, Verdict]:
        """Ask those from number `first` on."""
        timeline, decide, clock = request.timeline, self._decide, self._clock
        seconds, before = timeline.seconds, timeline.at or timeline.started
        for number in range(first, len(decide)):
            verdict = decide[number](request)
            if verdict is PASS:
                now = clock()
                seconds.append(now - before)
                before = now
                continue
            timeline.at = before
            if isinstance(verdict, Refusal):
                return self._refused(self._stages[number], request, verdict)
            return self._await(number, request, verdict)
        timeline.at = before
        return PASS

    async def _await(self, number: int, request: Request, deciding: Awaitable[Verdict]) -> Verdict:
        """Wait for a stage, and ask those behind it."""
        stage = self._stages[number]
        verdict = await self._in_time(stage, request, deciding)
        if isinstance(verdict, Refusal):
            return self._refused(stage, request, verdict)
        assert verdict is PASS  # noqa: S101 - there is no third answer
        request.timeline.end(self._clock())
        return await decided(self._go_on(request, number + 1))

    def _refused(self, stage: Stage, request: Request, refusal: Refusal) -> Refusal:
        request.timeline.end(self._clock())
        self._refusals.of(stage.name, refusal.code).add()
        return refusal

    async def _in_time(
        self, stage: Stage, request: Request, deciding: Awaitable[Verdict]
    ) -> Verdict:
        # A timer costs dozens of bare awaits, so only a stage that waits gets one.
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
                return await deciding
        except TimeoutError:
            return late


async def decided(verdict: Verdict | Awaitable[Verdict]) -> Verdict:
    """Wait for a verdict if it has to be waited for."""
    return verdict if isinstance(verdict, Pass | Refusal) else await verdict
