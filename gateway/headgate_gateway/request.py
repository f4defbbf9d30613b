"""One client call on its way through the pipeline."""

from collections.abc import Mapping
from typing import ClassVar, Final, final

from headgate_api.snapshot import Cohort, RouteBody, RouteRule
from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.allowance import Allowance
from headgate_gateway.calls.deadline import Deadline
from headgate_gateway.context.fit import Fitted
from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.exchange import Head
from headgate_gateway.routing.decision import Decision
from headgate_gateway.routing.plan import Plan
from headgate_gateway.routing.routes import Route
from headgate_gateway.routing.speculation import Preferred
from headgate_gateway.routing.tables import Credential, Model, Tables
from headgate_gateway.telemetry.trace_context import Trace
from headgate_gateway.timeline import Timeline

DIRECT: Final = RouteBody()
"""The policy of models that no RoutingPolicy claims."""
DIRECT_RULE: Final = RouteRule(name="direct")
"""Their one route."""


@final
class Request:
    """Filled in by the stages, in order. Every field has one writer, named here.

    Those without a value to begin with are missing until their writer has come to them.
    """

    __deletable__: ClassVar[list[str]] = ["model"]
    __slots__ = (
        "allowance", "asked", "body", "cohorts", "credential", "deadline", "decision", "fitted",
        "head", "id", "loaded", "model", "now", "plan", "prefers", "route", "rule", "tables",
        "task", "timeline", "trace",
    )  # fmt: skip

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - as the client is told it
        head: Head,
        body: bytes,
        tables: Tables,
        loaded: bool,
        now: float,
        trace: Trace,
        timeline: Timeline,
    ) -> None:
        self.id = id  # the edge
        self.head = head  # the edge
        self.body = body  # the edge
        self.tables = tables  # the edge, and anew behind `idempotency`: the policy in force
        self.loaded = loaded  # the edge: there is a policy, and it is current
        self.now = now  # s since 1970; the edge
        self.trace = trace  # the edge
        self.timeline = timeline  # all
        self.credential: Credential  # identity
        self.asked: Asked  # parse
        self.route: Route | None = None  # routing; None: the name is a ModelDeployment's own
        self.rule = DIRECT_RULE  # routing; the route of the policy. A course: of each stage
        self.decision: Decision | None = None  # routing, and the course; None: as `route`
        self.plan: Plan | None = None  # routing; None: the first answer is the last
        self.model: Model  # routing, or the course; missing: a fixed answer
        self.cohorts: Mapping[str, Cohort]  # as `model`: of it, those that may answer
        self.prefers: Preferred | None = None  # as `model`: which go first; None: all are alike
        self.deadline: Deadline  # deadline
        self.task: Task  # context
        self.allowance: Allowance | None = None  # routing, and the calls; None: no limits
        self.fitted: Fitted | None = None  # context; None: nothing was left out

    @property
    def policy(self) -> RouteBody:
        return DIRECT if self.route is None else self.route.body

    @property
    def label(self) -> str:
        """`policy/route`, for headers, metrics and the log."""
        return "direct" if self.route is None else self.route.steps[self.rule.name].label

    def forget_model(self) -> None:
        """Ask no model any more: what is told of the answer names none."""
        if hasattr(self, "model"):
            del self.model
        self.fitted = None
