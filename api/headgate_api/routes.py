"""Routes: which requests go where, what they may ask for, and what is done with the answer."""

from typing import Annotated, Final, Literal

from pydantic import Field

from headgate_api.base import ApiModel, Rule, distinct, ordered
from headgate_api.snapshot import Droppable, Trigger
from headgate_api.speculation import Speculation
from headgate_api.streaming import Streaming
from headgate_api.types import (
    Cel,
    KeyRef,
    ModelRef,
    RouteName,
    Temperature,
    Tokens,
    VariantName,
)


class Target(ApiModel):
    """A model that a route may lead to."""

    model_ref: ModelRef
    """The ModelDeployment, by metadata.name."""
    variants: Annotated[tuple[VariantName, ...], ordered(1, 16)] = ()
    """Its variants that may answer; the first of them that has a ready pod does. Absent: all, in
    the order of the ModelDeployment."""
    weight: Annotated[int, Field(ge=0, le=1000000)] = 1
    """Share of the requests, relative to the route's other targets. Absent: 1."""


class Respond(ApiModel):
    """A fixed answer, without a model."""

    message: Annotated[str, Field(min_length=1, max_length=4096)]
    """The text of the answer."""


class GenerationDefaults(ApiModel):
    """What holds where the client says nothing."""

    temperature: Temperature | None = None
    """How freely tokens are chosen; 0 takes the likeliest."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Tokens are chosen among the likeliest that have this probability together."""
    seed: Annotated[int, Field(ge=0, le=9007199254740991)] | None = None
    """Seed of the choice of tokens."""
    max_output_tokens: Tokens | None = None
    """Length of the answer."""


class GenerationCaps(ApiModel):
    """What holds whatever the client says: a request for more is answered with this much."""

    temperature: Temperature | None = None
    """Highest temperature."""
    max_output_tokens: Tokens | None = None
    """Longest answer."""


def _capped(field: str) -> Rule:
    both = f"has(self.defaults.{field}) && has(self.caps.{field})"
    return Rule(
        f"!has(self.defaults) || !has(self.caps) || !({both}) || "
        f"self.defaults.{field} <= self.caps.{field}",
        f"the default is above caps.{field}",
        f".defaults.{field}",
    )


class Generation(ApiModel):
    """How the model writes."""

    validations = (_capped("temperature"), _capped("maxOutputTokens"))

    defaults: GenerationDefaults | None = None
    """Where the client says nothing."""
    caps: GenerationCaps | None = None
    """Whatever the client says."""


class Tools(ApiModel):
    """Which tools a request may bring."""

    mode: Literal["Allowed", "Forbidden"] = "Allowed"
    """Forbidden: a request that brings tools is refused."""
    max_iterations: Annotated[int, Field(ge=1, le=64)] | None = None
    """Answers with calls of tools since the user's last message, after which the request is
    refused. Absent: no limit."""


class Context(ApiModel):
    """How much input a request may bring, and what is left out of more."""

    validations = (
        Rule(
            "self.onOverflow == 'Truncate' || !(has(self.keepTurns) || has(self.dropFirst))",
            "keepTurns and dropFirst go with onOverflow: Truncate",
        ),
        Rule(
            "self.onOverflow == 'Refuse' || has(self.maxInputTokens)",
            "onOverflow: Truncate needs maxInputTokens",
        ),
    )

    max_input_tokens: Tokens | None = None
    """Longest prompt. Absent: what the model's context leaves."""
    on_overflow: Literal["Refuse", "Truncate"] = "Refuse"
    """Refuse: a longer prompt is an error, context_length_exceeded. Truncate: parts of it are left
    out by the rules below, and it is an error where they do not suffice."""
    keep_turns: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Turns that stay, the last ones. A turn begins with a message of the user. Absent: 1."""
    max_tokens_per_source: Tokens | None = None
    """Longest text of one source of evidence; the rest of it is left out. Absent: no limit."""
    drop_first: Annotated[tuple[Droppable, ...], ordered(1, 3)] = ()
    """What is left out, and in which order. Absent: ToolOutput, Evidence, History."""


class Verifier(ApiModel):
    """A model that gives answers a score: `answer.verifier.score` of acceptWhen, from 0 to 1."""

    model_ref: ModelRef
    """Its ModelDeployment, by metadata.name."""
    instructions_key_ref: KeyRef | None = None
    """The entry of a ConfigMap that tells it what a good answer is, and to reply with one number
    from 0 to 1. Absent: one that responds to the question and is likely to be right."""
    max_output_tokens: Tokens = 64
    """Length of its reply. A reply that is not one number from 0 to 1 is no score."""


class Fallback(ApiModel):
    """Where a request goes on when its route has failed."""

    route: RouteName
    """The route that is tried then. A route is tried once for a request."""
    triggers: Annotated[tuple[Trigger, ...], distinct(1, 4)]
    """Error: the model failed, or the prompt is too long for it. Timeout: it did not answer in
    time. Saturated: no pod of it is ready, or all have as much as they can take. Rejected: its
    answer did not fulfil acceptWhen."""


_READS_SCORE: Final = "self.acceptWhen.contains('answer.verifier')"


class Route(ApiModel):
    """Where requests go, and what becomes of them."""

    validations = (
        Rule(
            "self.role != 'Fallback' || !has(self.when)",
            "route {self.name} is reached only through another route's fallback; remove when",
            ".when",
        ),
        Rule(
            "has(self.targets) != has(self.respond)",
            "route {self.name}: give exactly one of targets, respond",
        ),
        Rule(
            "!has(self.respond) || (!has(self.generation) && !has(self.fallback) && "
            "!has(self.acceptWhen) && !has(self.verifier) && !has(self.context) && "
            "!has(self.speculative))",
            "route {self.name}: a fixed answer has no generation, fallback, acceptWhen, verifier, "
            "context or speculative",
        ),
        Rule(
            "!has(self.targets) || self.targets.size() == 0 || "
            "self.targets.exists(t, !has(t.weight) || t.weight > 0)",
            "every weight is 0; give one target a weight above 0",
            ".targets",
        ),
        Rule(
            "!has(self.fallback) || self.fallback.all(f, f.route != self.name)",
            "route {self.name} falls back to itself",
            ".fallback",
        ),
        Rule(
            "!has(self.fallback) || has(self.acceptWhen) || "
            "!self.fallback.exists(f, 'Rejected' in f.triggers)",
            "triggers: [Rejected] needs acceptWhen on route {self.name}",
            ".fallback",
        ),
        Rule(
            f"!has(self.verifier) || (has(self.acceptWhen) && {_READS_SCORE})",
            "nobody reads the verifier: use answer.verifier.score in acceptWhen",
            ".verifier",
        ),
    )

    name: RouteName
    """Name of the route, for logs, metrics and headers."""
    role: Literal["Entry", "Fallback"] = "Entry"
    """Entry: requests come here by themselves. Fallback: only when another route has failed."""
    when: Cel | None = None
    """Which requests the route takes, in CEL over `request`, `tenant`, `user`, `region` and `now`.
    Absent: all that are left."""
    targets: Annotated[tuple[Target, ...], ordered(1, 16)] = ()
    """Models that share the requests by weight."""
    respond: Respond | None = None
    """A fixed answer instead of targets."""
    generation: Generation | None = None
    """How the model writes. Absent: as the client says."""
    streaming: Streaming = Streaming()
    """How a stream is given to the client."""
    speculative: Speculation | None = None
    """Which requests go to variants that guess ahead. Absent: such a variant is as any other."""
    tools: Tools | None = None
    """Which tools a request may bring. Absent: any."""
    context: Context | None = None
    """How much input a request may bring. Absent: as much as the model takes."""
    accept_when: Cel | None = None
    """Which answers the client gets to see, in CEL over `answer`; others count as failed. The whole
    answer is waited for. Absent: all."""
    verifier: Verifier | None = None
    """A model that gives the answer a score for acceptWhen."""
    fallback: Annotated[tuple[Fallback, ...], ordered(1, 8)] = ()
    """Where a request goes on when this route has failed: to the first that names the failure and
    was not tried yet. In a Cascade the next stage comes after them."""
