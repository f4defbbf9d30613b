"""The pipeline: stages asked in order, each with a name, a time budget and a default answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Protocol, assert_never

from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import PASS, Pass, Refusal, Verdict
from headgate_gateway.request import Request


class Stage(Protocol):
    name: ClassVar[str]  # one word for the metric label and the log key
    undecided: ClassVar[Refusal]  # the answer when the budget runs out: never a pass by silence
    budget: ClassVar[float]  # s

    def decide(self, request: Request) -> Verdict | Awaitable[Verdict]: ...


class Pipeline:
    """Asks the stages about a request.

    No stage writes to the exchange. The service turns the one refusal into a response, so that no
    stage can forget the OpenAI error body, `Retry-After` or the log entry.
    """

    def __init__(
        self, stages: Sequence[Stage], metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        # Series are bound once: finding one costs more than counting with it.
        self._stages = [(stage, metrics.stage_seconds.of(stage.name)) for stage in stages]
        self._refusals = metrics.refusals
        self._clock = clock

    async def ask(self, request: Request) -> Verdict:
        started = self._clock()
        for stage, seconds in self._stages:
            verdict = stage.decide(request)
            # A timer costs dozens of bare awaits, so only a stage that waits gets one.
            if not isinstance(verdict, (Pass, Refusal)):
                try:
                    async with asyncio.timeout(stage.budget):
                        verdict = await verdict
                except TimeoutError:
                    verdict = stage.undecided
            ended = self._clock()
            seconds.observe(ended - started)
            started = ended
            match verdict:
                case Pass():
                    continue
                case Refusal():
                    self._refusals.of(stage.name, verdict.code).add()
                    return verdict
                case _:
                    assert_never(verdict)
        return PASS
