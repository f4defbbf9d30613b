"""Stage `deadline`: by when must it all be over?"""

from headgate_gateway.calls.deadline import EXCEEDED, LONGEST, deadline
from headgate_gateway.refusals import PASS, Refusal, Verdict
from headgate_gateway.request import Request


class SetDeadline:
    """After routing, because the route has a say in it. It counts from the request's arrival."""

    name = "deadline"
    undecided = EXCEEDED.refusal
    budget = 1.0

    def decide(self, request: Request) -> Verdict:
        how = request.rule.streaming
        found = deadline(
            request.policy.deadlines,
            request.head.headers,
            request.timeline.started,
            stream=request.asked.streams,
            beat=LONGEST if how is None else how.heartbeat,
        )
        if isinstance(found, Refusal):
            return found
        request.deadline = found
        return PASS
