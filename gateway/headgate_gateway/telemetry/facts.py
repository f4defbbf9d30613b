"""What is told of one request: a line of the access log, and all that traces are made of.

Names of objects, numbers and words of ours. Never anything that a client or a model wrote: what is
not in `Facts` can be in no log and no trace.
"""

from datetime import datetime

import msgspec

OK = "ok"
CLIENT_CLOSED = "client_closed"
"""The client left before its answer was complete."""


class Try(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One attempt at a model server."""

    pod: str
    result: str
    ms: float
    at_ms: float = 0.0
    """When it began, after the request's arrival."""
    hedge: bool = False
    model: str = ""
    """ModelDeployment, where the request may go to several."""
    output_tokens: int | None = None
    """Of its answer, shown or not, where the request may go to several."""


class Facts(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="event", tag="request"):
    """Of one request that has ended. Fields are those of the log line, and an interface.

    What did not come about is left out: a request without a good key has no tenant.
    """

    level: str
    time: datetime
    """When it ended."""
    id: str
    """The answer's `x-request-id`."""
    trace_id: str
    status: int
    """HTTP; 0: the client left before there was one."""
    code: str
    """Reason code, or `ok`, or `client_closed`."""
    duration_s: float
    operation: str
    """`chat`, `text_completion` or `embeddings`."""
    tenant: str | None = None
    key: str | None = None
    """Name of the API key."""
    user: str | None = None
    namespace: str | None = None
    model: str | None = None
    """ModelDeployment."""
    public_name: str | None = None
    """What the client called the model. Only once it is known to be a name of ours."""
    route: str | None = None
    """RoutingPolicy and its route; missing: the name is the ModelDeployment's own."""
    stream: bool = False
    attempts: int = 0
    tries: tuple[Try, ...] = ()
    """The attempts, where there was more than one."""
    cohort: str | None = None
    pod: str | None = None
    first_token_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    tokens_estimated: bool = False
    finish_reason: str | None = None
    stages_ms: dict[str, float] = {}
    deadline_left_ms: int | None = None
    """When the request ended; negative: it took longer."""
    idempotency: str | None = None
    """What became of its Idempotency-Key."""
    context: str | None = None
    """What was left out of its input, as the answer's header says it."""

    @property
    def failed(self) -> bool:
        """Whether the gateway or a model server is to blame, also in the middle of a stream."""
        if self.code in {OK, CLIENT_CLOSED}:
            return False
        return self.status >= 500 or self.status == 200
