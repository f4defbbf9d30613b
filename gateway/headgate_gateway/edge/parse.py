"""Stage `parse`: is it a request that we understand?"""

from headgate_gateway.refusals import PASS, Code, Refusal, Verdict
from headgate_gateway.request import Request
from headgate_gateway.streaming.surfaces import SURFACES


class Parse:
    name = "parse"
    undecided = Refusal(Code.STAGE_UNDECIDED, 503, "The request could not be read.", retry_after=1)
    budget = 1.0

    def decide(self, request: Request) -> Verdict:
        found = SURFACES[request.head.path].read(request.body)
        if isinstance(found, Refusal):
            return found
        request.asked = found
        return PASS
