"""Stage `context`: from what the client asked to the task that a model server gets."""

from collections.abc import Awaitable
from typing import Final

from headgate_gateway.context.chat import Found, Prepared
from headgate_gateway.context.prepare import Preparation
from headgate_gateway.refusals import PASS, Code, Refusal, Verdict
from headgate_gateway.request import Request

NAME: Final = "context"
UNDECIDED: Final = Refusal(
    Code.STAGE_UNDECIDED, 503, "The prompt took too long to write.", retry_after=1
)
BUDGET: Final = 5.0  # s


class WritePrompt:
    name = NAME
    undecided = UNDECIDED
    budget = BUDGET

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation

    def decide(self, request: Request) -> Verdict | Awaitable[Verdict]:
        if request.plan is not None or request.rule.respond is not None:
            return PASS  # a course writes one for each model that it asks; or none is asked
        found = self.preparation.prepare(
            request.asked,
            request.model,
            request.rule,
            body=request.body,
            now=request.now,
            counts=request.allowance is not None and request.allowance.tokens is not None,
        )
        if isinstance(found, Prepared):
            return _take(request, found)
        return found if isinstance(found, Refusal) else _later(request, found)


async def _later(request: Request, found: Awaitable[Found]) -> Verdict:
    prepared = await found
    return prepared if isinstance(prepared, Refusal) else _take(request, prepared)


def _take(request: Request, found: Prepared) -> Verdict:
    request.task, request.fitted = found.task, found.fitted
    return PASS
