"""Requests that have not ended: those in work, and those that are only thought of."""

import msgspec

from headgate_gateway.explain.explain import explain
from headgate_gateway.explain.explanation import Explanation, Outcome
from headgate_gateway.explain.record import record
from headgate_gateway.outcome import Outcome as Unknown, facts_of, try_of
from headgate_gateway.refusals import Refusal
from headgate_gateway.request import Request


def so_far(request: Request, now: float) -> Explanation:
    """Explain a request that is in work `now`, on the loop's clock, as far as it has come."""
    timeline = request.timeline
    facts = facts_of(request, Unknown(), timeline, now - timeline.started)
    facts.attempts = len(timeline.attempts)
    facts.tries = tuple(try_of(attempt, timeline.started) for attempt in timeline.attempts)
    if timeline.first_text is not None:
        facts.first_token_s = timeline.first_text - timeline.started
    return explain(record(request, None, msgspec.json.encode(facts)))


def rehearsed(request: Request, refusal: Refusal | None) -> Explanation:
    """Explain a request that nobody has made, after its stages have seen it.

    Args:
        request: as they have left it.
        refusal: what the last of them said, if it was no.
    """
    found = so_far(request, request.timeline.started)
    stages = found.timings.stages_ms if found.timings is not None else {}
    found.id = found.trace_id = found.timings = found.budgets.left_ms = None
    if found.stages and hasattr(request, "task"):
        found.stages[-1].input_tokens = request.task.input_tokens or None
    if refusal is not None:
        found.outcome = Outcome(
            status=refusal.status,
            code=refusal.code,
            stage=next(reversed(stages), "identity"),
            message=refusal.message,
        )
    return found
