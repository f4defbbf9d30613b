"""One client call on its way through the pipeline."""

from dataclasses import dataclass, field

from headgate_gateway.calls.call import Ask
from headgate_gateway.edge.chat_request import ChatRequest
from headgate_gateway.edge.exchange import Head
from headgate_gateway.routing.tables import Credential, Model, Route, Tables


@dataclass(slots=True, kw_only=True)
class Request:
    """Filled in by the stages, in order. Every field has one writer, named here."""

    head: Head  # the edge
    body: bytes  # the edge
    tables: Tables  # the edge: the policy in force when the request came, to its end
    loaded: bool  # the edge: there is a policy, and it is current
    now: float  # s since 1970; the edge
    credential: Credential = field(init=False)  # identity
    chat: ChatRequest = field(init=False)  # parse
    route: Route | None = None  # route; None: the name is a ModelDeployment's own
    model: Model = field(init=False)  # route
    ask: Ask = field(init=False)  # prompt
