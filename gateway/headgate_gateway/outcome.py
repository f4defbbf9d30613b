"""What there is to tell about an answer once it is given: one log line, and the counters."""

from dataclasses import dataclass

import structlog

from headgate_gateway.calls.call import Call
from headgate_gateway.calls.events import End
from headgate_gateway.feedback import Feedback, count
from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import Code
from headgate_gateway.request import Request

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Outcome:
    """Written while the answer is given."""

    status: int = 0  # HTTP; 0: the client left before there was one
    code: str = ""  # reason code; empty: all went well
    end: End | None = None

    def fail(self, code: str, status: int) -> None:
        """Note why it failed. A status that the client has stays."""
        self.code, self.status = code, self.status or status


@dataclass(slots=True)
class Teller:
    """Tells outcomes to the log, to Prometheus and to the operator."""

    metrics: Metrics
    feedback: Feedback

    def tell(self, request: Request, call: Call | None, outcome: Outcome) -> None:
        timeline = request.timeline
        seconds = (timeline.ended or timeline.started) - timeline.started
        self.metrics.requests.of(str(outcome.status), outcome.code).add()
        before = timeline.started
        for stage, ended in timeline.stages:
            self.metrics.stage_seconds.of(stage).observe(ended - before)
            before = ended
        facts: dict[str, object] = {
            "status": outcome.status,
            "code": outcome.code or "ok",
            "duration_s": round(seconds, 4),
        }
        if hasattr(request, "credential"):
            key, tenant = request.credential.key, request.credential.tenant
            facts |= {"tenant": tenant.name, "key": key.name, "user": key.user}
        if call is not None:
            facts |= self._count(request, call, outcome, seconds)
        log.info("request", **facts)

    def _count(
        self, request: Request, call: Call, outcome: Outcome, seconds: float
    ) -> dict[str, object]:
        identity, pod, cohort = request.model.identity, call.pod, call.cohort
        facts: dict[str, object] = {
            "namespace": identity.namespace,
            "model": identity.name,
            "route": request.route.identity.name if request.route is not None else None,
            "stream": bool(request.chat.stream),
            "attempts": len(request.timeline.attempts),
        }
        if pod is None or cohort is None:
            return facts
        names = (identity.namespace, identity.name, cohort.variant)
        first_text = request.timeline.first_text
        if first_text is not None:
            first_text -= request.timeline.started
        self.metrics.attempts.of(*names, outcome.code or "ok").add()
        if len(request.timeline.attempts) > 1:
            self.metrics.attempts.of(*names, Code.UPSTREAM_LOST).add(
                len(request.timeline.attempts) - 1
            )
        self.metrics.request_seconds.of(*names).observe(seconds)
        count(
            self.feedback.of(identity.namespace, identity.name, cohort.name),
            failed=outcome.code.startswith("upstream"),
            first_token=first_text,
            usage=outcome.end.usage if outcome.end is not None else None,
        )
        facts |= {"cohort": cohort.name, "pod": pod.name}
        if first_text is not None:
            self.metrics.first_token_seconds.of(*names).observe(first_text)
            facts["first_token_s"] = round(first_text, 4)
        if outcome.end is not None:
            usage = outcome.end.usage
            self.metrics.tokens.of(*names, "input").add(usage.input_tokens)
            self.metrics.tokens.of(*names, "output").add(usage.output_tokens)
            facts |= {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "tokens_estimated": usage.estimated,
                "finish_reason": outcome.end.finish_reason,
            }
        return facts
