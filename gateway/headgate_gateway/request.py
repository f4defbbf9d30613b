"""One client call on its way through the pipeline."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

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
LATER: Final[Any] = None
"""Of a field that its writer has not come to."""


class Request(Struct, kw_only=True):
    """Filled in by the stages, in order. Every field has one writer, named here."""

    id: str  # the edge
    head: Head  # the edge
    body: bytes  # the edge
    tables: Tables  # the edge, and anew behind `idempotency`: the policy in force, to its end
    loaded: bool  # the edge: there is a policy, and it is current
    now: float  # s since 1970; the edge
    trace: Trace  # the edge
    timeline: Timeline  # all
    credential: Credential = LATER  # identity
    asked: Asked = LATER  # parse
    route: Route | None = None  # routing; None: the name is a ModelDeployment's own
    rule: RouteRule = DIRECT_RULE  # routing; the route of the policy. A course: of each stage
    decision: Decision | None = None  # routing, and the course; None: as `route`
    plan: Plan | None = None  # routing; None: the first answer is the last
    model: Model = LATER  # routing, or the course; None: a fixed answer
    cohorts: Mapping[str, Cohort] = LATER  # as `model`: of it, those that may answer
    prefers: Preferred | None = None  # as `model`: which of them go first; None: all are alike
    deadline: Deadline = LATER  # deadline
    task: Task = LATER  # context
    allowance: Allowance | None = None  # routing, and the calls; None: the tenant has no limits
    fitted: Fitted | None = None  # context; None: nothing was left out

    @property
    def policy(self) -> RouteBody:
        return DIRECT if self.route is None else self.route.body

    @property
    def label(self) -> str:
        """`policy/route`, for headers, metrics and the log."""
        return "direct" if self.route is None else self.route.steps[self.rule.name].label
