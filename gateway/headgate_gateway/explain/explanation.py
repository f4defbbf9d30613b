"""What is told of one request to whoever asks why it went as it did: the schema of the JSON.

Fields are an interface, as those of the log line are. What did not come about is left out.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from headgate_api.snapshot import Trigger
from headgate_gateway.routing.stage import Result, Speculation, Why
from headgate_gateway.streaming.segments import Cause
from headgate_gateway.streaming.watch import Ending

Matched: TypeAlias = Literal["yes", "no", "error", "not reached", "fallback only"]
"""Whether a route took the request. `not reached`: one before it did, or nobody came so far."""


class Part(msgspec.Struct, omit_defaults=True):
    """Any part of an explanation."""


class Asked(Part, kw_only=True):
    """Who wanted what."""

    operation: str = ""
    name: str | None = None
    """What the client called the model, where it is a name of ours."""
    stream: bool = False
    tenant: str | None = None
    key: str | None = None
    user: str | None = None


class Policy(Part, kw_only=True):
    """The RoutingPolicy that claims the name."""

    namespace: str
    name: str
    architecture: Literal["Single", "Router", "Cascade"]


class Rule(Part, kw_only=True):
    """One route of the policy, in its order."""

    route: str
    matched: Matched
    when: str | None = None
    """Missing: it takes whatever comes to it."""
    read: dict[str, Any] = {}
    """The words of `when` and the values that they had. What clients write is cut short."""
    because: tuple[str, ...] = ()
    """The parts of `when` that decided, with what they read."""
    error: str | None = None
    """Why `when` had no value."""
    targets: dict[str, int] = {}
    """Models and their weights. None: the answer is fixed."""
    accept_when: str | None = None
    """What an answer must be to be given."""
    verifier: str | None = None
    """ModelDeployment that scores an answer, if `accept_when` comes to its score."""
    fallback: dict[str, tuple[Trigger, ...]] = {}
    """Routes that come next, and after what."""
    max_input_tokens: int | None = None
    """What it takes of input at most."""
    truncates: bool = False
    """It leaves out what is beyond that; otherwise it refuses."""


class Stage(Part, kw_only=True):
    """One route on the request's way."""

    route: str
    trigger: Trigger | None = None
    """It is a fallback, for this reason."""
    repair: bool = False
    """The model was shown its answer before, and what was wrong with it."""
    model: str | None = None
    """ModelDeployment. Missing: none was ready, or the answer is fixed."""
    variants: tuple[str, ...] = ()
    why: Why
    speculation: Speculation | None = None
    """Missing: the route says nothing of it."""
    result: Result
    reason: str | None = None
    read: dict[str, Any] = {}
    """The words of `acceptWhen` and the values that they had."""
    began_ms: float | None = None
    """After the request's arrival."""
    took_ms: float | None = None
    attempts: tuple[int, ...] = ()
    """Numbers of its attempts, from 1."""
    input_tokens: int | None = None
    output_tokens: int | None = None


class Prospect(Part, kw_only=True):
    """A route that a request could come to, before anybody knows how those before it will do."""

    route: str
    after: dict[str, tuple[Trigger, ...]]
    """The routes before it, and after which of their failures it is taken. None: after any, as the
    next stage of a cascade."""
    repair: bool = False
    """An answer of its own model is shown to it, and what was wrong with that, if it follows one
    that was not accepted."""
    model: str | None = None
    """As of a stage; so are the next ones."""
    variants: tuple[str, ...] = ()
    why: Why = "only"
    speculation: Speculation | None = None
    reason: str | None = None
    """Why it could not be asked."""
    input_tokens: int | None = None
    """Of the prompt that would be written, without a repair. An estimate."""
    max_output_tokens: int | None = None
    context: str | None = None
    """What of the input would be left out."""


class Attempt(Part, kw_only=True):
    """One try at a model server."""

    pod: str
    model: str | None = None
    """ModelDeployment, where the request went to several."""
    cohort: str | None = None
    hedge: bool = False
    """Beside another one that was still silent."""
    result: str
    began_ms: float
    took_ms: float


class Segments(Part, kw_only=True):
    """How the text of a stream was given."""

    count: int
    ending: Ending
    first_ms: float | None = None
    """After the request's arrival: the first with a meaning."""
    longest_gap_ms: float | None = None
    causes: dict[Cause, int] = {}
    """Why those of text ended where they did."""
    retracts: bool = False
    """One seems to take back what was said. A guess."""
    asserts: bool = False
    """The first seems to be a verdict. A guess."""


class Budgets(Part, kw_only=True):
    """What the request was allowed."""

    seconds: float | None = None
    """Until the answer's last byte."""
    set_by: str | None = None
    """`policy`, or the client's header."""
    left_ms: int | None = None
    """Of it, when the request ended."""
    max_output_tokens: int | None = None
    max_total_tokens: int | None = None
    """Of all calls together, as the tenant's limits say."""
    used_tokens: int | None = None
    """Of them."""
    context: str | None = None
    """What was left out of the input, as the answer's `x-headgate-context` says it."""


class Outcome(Part, kw_only=True):
    """How it ended."""

    status: int
    """HTTP; 0: the client left before there was one."""
    code: str
    """`ok`, `client_closed` or a reason code."""
    stage: str | None = None
    """The stage that refused it."""
    message: str | None = None
    """What the client was told. Only of a request that has not been made."""
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    tokens_estimated: bool = False
    idempotency: str | None = None


class Timings(Part, kw_only=True):
    """Where the time went."""

    stages_ms: dict[str, float] = {}
    """The gateway's own, in their order."""
    first_text_ms: float | None = None
    """When the first text could go to the client."""
    total_ms: float


class Explanation(Part, kw_only=True):
    """One request."""

    id: str | None = None
    """Missing: it has not been made."""
    time: str | None = None
    """Of its end, RFC 3339. Missing: it has not ended."""
    trace_id: str | None = None
    asked: Asked
    policy: Policy | None = None
    """Missing: the name is a ModelDeployment's own, or nobody's."""
    route: str | None = None
    """`policy/route` that gave the answer, or was to."""
    model: str | None = None
    """ModelDeployment that did."""
    rules: tuple[Rule, ...] = ()
    stages: tuple[Stage, ...] = ()
    prospects: tuple[Prospect, ...] = ()
    """What could follow them. Only of a request that has not been made."""
    attempts: tuple[Attempt, ...] = ()
    segments: Segments | None = None
    """Missing: it was no stream in segments."""
    budgets: Budgets
    outcome: Outcome | None = None
    timings: Timings | None = None
