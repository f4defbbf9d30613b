"""The snapshot: the compiled policy that gateways enforce, and the only thing they are told.

It lies in the operator's namespace as ConfigMaps: immutable shards, named by their content, and one
pointer that lists them. A gateway runs the pointer with the highest (epoch, sequence) it has seen.

Skew rules. `Pointer.schema` changes only when the layout of the pointer, the shards or `Entry`
changes. What a *body* means grows by optional fields; a field that an older gateway must not ignore
adds a word to `Entry.requires`, and a gateway without the word keeps its old copy of that object.
"""

from typing import Any, Final, Literal, TypeAlias

import msgspec

SCHEMA: Final = 1
POINTER: Final = "headgate-snapshot"
"""Name of the ConfigMap with the pointer; shards are `headgate-snapshot-<digest>`."""
POINTER_KEY: Final = "pointer.json"
SHARD_KEY: Final = "shard.json"
LABEL: Final = "headgate.dev/snapshot"
"""Label of pointer and shards, with the value `pointer` or `shard`."""

Kind: TypeAlias = Literal["ModelDeployment", "RoutingPolicy", "TenantQuota", "SafetyPolicy"]
Digest: TypeAlias = str
"""SHA-256 of a shard's bytes: its first 32 hex digits."""


class Identity(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Which object an entry stands for."""

    kind: Kind
    namespace: str
    name: str


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One object as accepted last. `body` is one of the four `...Body` below, as raw JSON."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int
    requires: tuple[str, ...] = ()
    body: msgspec.Raw

    @property
    def identity(self) -> Identity:
        return Identity(kind=self.kind, namespace=self.namespace, name=self.name)


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of one bucket, in the order of their identities."""

    entries: tuple[Entry, ...]


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway reads first. `(epoch, sequence)` only ever rises."""

    schema: int
    epoch: int
    """Lease transitions of the operator that wrote it: a deposed leader has a lower one."""
    sequence: int
    shards: tuple[Digest, ...]
    """One per bucket. An empty bucket is the empty string and has no ConfigMap."""

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.sequence)


class Cohort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Pods that answer alike: one variant at one revision."""

    name: str
    """Value of the pods' label `headgate.dev/cohort`."""
    variant: str
    revision: str
    runtime: Literal["triton-llmapi", "trtllm-serve", "triton-python"]
    """Which adapter speaks to them."""
    served_model: str
    """Their own name of the model: Triton's in the URL `/v2/models/<served_model>/generate_stream`,
    or what an OpenAI server wants in `model`."""
    speculative: bool = False
    """They guess ahead, for every request."""


class TokenizerBody(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model's own tokenizer.json is."""

    uri: str
    """https:// or file://"""
    digest: str
    """`sha256:` and 64 hex digits of its content."""


class ModelBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A ModelDeployment: which pods answer to a public name, and how prompts are written."""

    public_name: str
    created: int = 0
    """Seconds since 1970 of the object's creation; `created` of `GET /v1/models`."""
    cohorts: tuple[Cohort, ...] = ()
    chat_template: str | None = None
    """Jinja source. None: the standard template (`policy.chat`)."""
    max_context_tokens: int | None = None
    tokenizer: TokenizerBody | None = None
    """None: what a request brings is estimated."""
    suspended: bool = False


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a route leads: a ModelDeployment of the same namespace."""

    model: str
    """metadata.name, not the public name."""
    weight: int = 1
    variants: tuple[str, ...] = ()
    """The first of them that has a ready pod answers. Empty: any variant."""


class GenerationBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a route says about generating. None: nothing."""

    temperature: float | None = None
    """Where the client says nothing; so are the next three."""
    top_p: float | None = None
    seed: int | None = None
    max_output_tokens: int | None = None
    cap_temperature: float | None = None
    """Whatever the client says; so is the next one."""
    cap_max_output_tokens: int | None = None


StreamingMode: TypeAlias = Literal["Allowed", "Buffered", "Refused"]
Boundary: TypeAlias = Literal["Sentence", "Line", "Size", "Token"]
OnUpstreamLoss: TypeAlias = Literal["Error", "Continue"]


class StreamingBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a stream is given: in segments."""

    mode: StreamingMode = "Allowed"
    boundary: Boundary = "Sentence"
    max_characters: int = 400
    """The longest segment."""
    max_hold: float = 0.5
    """s that text is held for the rest of its segment."""
    heartbeat: float = 15.0
    """s of silence after which the client gets a sign of life."""
    on_upstream_loss: OnUpstreamLoss = "Error"


SpeculationMode: TypeAlias = Literal["Auto", "Shadow", "Never"]
GuessedTools: TypeAlias = Literal["Use", "Skip"]


class SpeculationBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which requests of a route go to cohorts that guess ahead."""

    mode: SpeculationMode = "Auto"
    percent: int = 100
    """Of the requests that may go there."""
    min_acceptance_percent: int = 40
    """Of the guessed tokens, that the model must accept."""
    min_benefit_percent: int = 5
    """How much faster guessing cohorts must write."""
    max_input_tokens: int | None = None
    max_temperature: float | None = None
    tool_calls: GuessedTools = "Skip"


class ToolsBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a route allows of tools."""

    forbidden: bool = False
    max_iterations: int | None = None
    """Answers with tool calls since the user's last message."""


Droppable: TypeAlias = Literal["ToolOutput", "Evidence", "History"]


class ContextBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a route allows of input."""

    max_input_tokens: int | None = None
    truncate: bool = False
    """What does not fit is left out by the rules below; otherwise the request is refused."""
    keep_turns: int | None = None
    max_tokens_per_source: int | None = None
    drop_first: tuple[Droppable, ...] = ()


class VerifierBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that gives answers a score from 0 to 1."""

    model: str
    """metadata.name of its ModelDeployment."""
    instructions: str = ""
    max_output_tokens: int = 64


Trigger: TypeAlias = Literal["Error", "Timeout", "Saturated", "Rejected"]


class FallbackBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a request goes on when a route has failed."""

    route: str
    triggers: tuple[Trigger, ...]


class RouteRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One route of a policy: either `targets` or `respond`."""

    name: str
    fallback_only: bool = False
    """Reached through another route's fallback alone."""
    when: str | None = None
    """CEL over the words of a request."""
    accept_when: str | None = None
    """CEL over the words of an answer."""
    targets: tuple[Target, ...] = ()
    respond: str | None = None
    """A fixed answer."""
    generation: GenerationBody = GenerationBody()
    streaming: StreamingBody | None = None
    """None: text is passed on as it comes."""
    speculative: SpeculationBody | None = None
    """None: cohorts that guess are as any others."""
    tools: ToolsBody = ToolsBody()
    context: ContextBody = ContextBody()
    verifier: VerifierBody | None = None
    fallback: tuple[FallbackBody, ...] = ()


StickinessKey: TypeAlias = Literal["Session", "User", "Tenant", "None"]


class StickinessBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What keeps its side of a weighted split."""

    key: StickinessKey = "Session"
    header: str = "x-session-id"
    ttl: float = 3600.0
    """s"""


class DeadlineBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long a request may take, in s."""

    background: bool = False
    """Nobody waits for it: no hedging, and the least urgent of all."""
    total: float = 120.0
    """A plain answer, to its last byte."""
    stream: float = 600.0
    """A stream, to its last byte."""
    first_segment: float = 30.0
    """To the first text: waiting at the model server and reading the prompt included."""
    idle_token: float = 15.0
    """Between two pieces of text."""
    reserve: float = 0.5
    """Of `total` and `stream`, kept back for ending gracefully."""
    stages: dict[str, float] = {}
    """Time of a stage, by its name."""


RetryOn: TypeAlias = Literal[
    "Connect", "Reset", "Unavailable", "Overloaded", "FirstTokenTimeout", "InvalidOutput"
]


class RetryBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a call may be tried again, always before the client has seen anything of it."""

    max_attempts: int = 2
    budget_percent: int = 20
    """Retries at once, of the requests at once."""
    min_concurrent: int = 3
    """Retries at once that are allowed however few requests there are."""
    backoff_base: float = 0.1
    backoff_max: float = 2.0
    retry_on: tuple[RetryOn, ...] = ("Connect", "Reset", "Unavailable", "Overloaded")


class HedgingBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a second pod is asked while the first is still silent. One of the first two is given."""

    percentile: int | None = None
    """Of the times to the first text that were seen lately."""
    seconds: float | None = None
    max_percent: int = 5
    """Of the requests."""


class OutlierBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a pod that fails gets no more requests, and for how long."""

    consecutive_failures: int = 5
    base_ejection: float = 30.0
    """s, doubled with each ejection in a row."""
    max_ejection_percent: int = 50
    """Of the model's pods."""


Architecture: TypeAlias = Literal["Single", "Router", "Cascade"]


class RouteBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A RoutingPolicy. `models` holds only the names that it won (api/README.md D4)."""

    models: tuple[str, ...] = ()
    created: int = 0
    architecture: Architecture = "Single"
    match_headers: tuple[str, ...] = ()
    """Request headers that `when` may read, in lower case."""
    routes: tuple[RouteRule, ...] = ()
    stickiness: StickinessBody = StickinessBody()
    deadlines: DeadlineBody = DeadlineBody()
    retries: RetryBody = RetryBody()
    hedging: HedgingBody | None = None
    outliers: OutlierBody = OutlierBody()


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One API key of a tenant, by digest. The key itself never leaves its Secret."""

    sha256: str
    """Hex SHA-256 of the whole key."""
    name: str
    """Entry of the Secret: the key's id in logs."""
    secret: str = ""
    """The Secret that it lies in: while that cannot be read its keys stay in force."""
    user: str | None = None
    tier: str | None = None
    """Tier of the user who holds it, for the rules of routes."""
    expires_at: int | None = None
    """Seconds since 1970."""


Priority: TypeAlias = Literal["Critical", "Standard", "Sheddable"]
Grant: TypeAlias = Literal["Explain"]


class RequestLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one request may use, whatever its stages. None: no limit."""

    max_total_tokens: int | None = None
    """Read and written by all models that are asked for it."""
    max_calls: int | None = None
    """Of model servers."""


class TenantBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A TenantQuota."""

    tenant: str
    keys: tuple[ApiKey, ...] = ()
    allowed_models: tuple[str, ...] | None = None
    """Globs over public names. None: every name of the namespace."""
    priority: Priority = "Standard"
    grants: tuple[Grant, ...] = ()
    """Rights to use headers of Headgate's own."""
    request: RequestLimits | None = None


class InputRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pattern (RE2) over the client's text; a match refuses the request."""

    name: str
    pattern: str
    explanation: str | None = None


class SafetyBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A SafetyPolicy. It binds the tenants and models of its namespace that match."""

    models: tuple[str, ...] | None = None
    tenants: tuple[str, ...] | None = None
    shadow: bool = False
    """Decide and count, but let pass."""
    rules: tuple[InputRule, ...] = ()


Body: TypeAlias = ModelBody | RouteBody | TenantBody | SafetyBody
BODIES: Final[dict[Kind, Any]] = {
    "ModelDeployment": ModelBody,
    "RoutingPolicy": RouteBody,
    "TenantQuota": TenantBody,
    "SafetyPolicy": SafetyBody,
}
FEATURES: Final = frozenset(
    {"call-policy", "input-rules", "request-budget", "routes", "trtllm-serve"}
)
"""Words that a gateway of this release understands in `Entry.requires`."""


class GatewayReport(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /snapshot` on a gateway's admin port: what it runs and what it can read."""

    schema: int
    epoch: int
    sequence: int
    reads: tuple[int, ...] = (SCHEMA,)
    features: tuple[str, ...] = ()
    kept: tuple[Identity, ...] = ()
    """Objects whose newer version it could not take, because of an unknown `requires`."""

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.sequence)
