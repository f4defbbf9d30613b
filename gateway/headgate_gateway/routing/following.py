"""Where a request goes on when a route has failed it. Pure."""

from collections.abc import Container
from typing import Final, NamedTuple

from headgate_api.snapshot import Trigger
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.routing.routes import Route, Step

NOT_ACCEPTED: Final = Refusal(
    Code.ANSWER_NOT_ACCEPTED, 502, "The model's answer is not what its route asks of an answer."
)
TRIGGERS: Final[dict[Code, Trigger]] = {
    Code.ANSWER_NOT_ACCEPTED: "Rejected",
    Code.INVALID_OUTPUT: "Rejected",
    Code.UPSTREAM_TIMEOUT: "Timeout",
    Code.DEADLINE_EXCEEDED: "Timeout",  # while there is time: too little for this model
    Code.UPSTREAM_OVERLOADED: "Saturated",
    Code.MODEL_NOT_READY: "Saturated",
    Code.MODEL_SUSPENDED: "Saturated",
    Code.UPSTREAM_ERROR: "Error",
    Code.UPSTREAM_INVALID: "Error",
    Code.UPSTREAM_LOST: "Error",
    Code.UPSTREAM_OVERRUN: "Error",
    Code.UPSTREAM_REFUSED: "Error",
    Code.UPSTREAM_UNAVAILABLE: "Error",
    Code.CONTEXT_LENGTH_EXCEEDED: "Error",  # of this model
    Code.STAGE_UNDECIDED: "Error",
    Code.INTERNAL_ERROR: "Error",
}
"""What a failure is to `fallback[].triggers`. Others are the request's own: no route mends them."""


class Trouble(NamedTuple):
    """How a route has failed."""

    refusal: Refusal
    """What the client is told if nobody else answers."""
    wrong: str = ""
    """What was wrong with the answer, in short words."""
    text: str = ""
    """The answer, where it could be mended."""
    model: str = ""
    """Whose it was."""

    @property
    def trigger(self) -> Trigger | None:
        return TRIGGERS.get(self.refusal.code)


def fallback(route: Route, step: Step, trigger: Trigger, tried: Container[str]) -> Step | None:
    """Find the route that a step falls back to."""
    for each in step.rule.fallback:
        if trigger in each.triggers and each.route not in tried:
            return route.steps[each.route]
    return None


def mendable(route: Route, step: Step, model: str) -> bool:
    """Tell whether a rejected answer of `model` may be shown to it again, to do better."""
    return any(
        "Rejected" in each.triggers
        and any(target.model == model for target in route.steps[each.route].rule.targets)
        for each in step.rule.fallback
    )
