"""One client call on its way through the pipeline."""

from dataclasses import dataclass, field

from headgate_api.snapshot import RouteBody
from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.deadline import Deadline
from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.exchange import Head
from headgate_gateway.routing.tables import Credential, Model, Route, Tables
from headgate_gateway.telemetry.trace_context import Trace
from headgate_gateway.timeline import Timeline

DIRECT = RouteBody(models=(), targets=())
"""The policy of models that no RoutingPolicy claims."""


@dataclass(slots=True, kw_only=True)
class Request:
    """Filled in by the stages, in order. Every field has one writer, named here."""

    id: str  # the edge
    head: Head  # the edge
    body: bytes  # the edge
    tables: Tables  # the edge: the policy in force when the request came, to its end
    loaded: bool  # the edge: there is a policy, and it is current
    now: float  # s since 1970; the edge
    trace: Trace  # the edge
    timeline: Timeline  # all
    credential: Credential = field(init=False)  # identity
    asked: Asked = field(init=False)  # parse
    route: Route | None = None  # routing; None: the name is a ModelDeployment's own
    model: Model = field(init=False)  # routing
    deadline: Deadline = field(init=False)  # deadline
    task: Task = field(init=False)  # context

    @property
    def policy(self) -> RouteBody:
        return DIRECT if self.route is None else self.route.body
