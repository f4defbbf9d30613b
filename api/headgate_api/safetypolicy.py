"""SafetyPolicy (`spol`): what may not pass."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headgate_api.base import (
    AGE,
    MESSAGE,
    READY,
    REASON,
    ApiModel,
    Column,
    Resource,
    Rule,
    Status,
    distinct,
    keyed,
    ordered,
)
from headgate_api.types import Glob, Label

Example = Annotated[str, Field(max_length=256)]


class AppliesTo(ApiModel):
    """Whose requests are checked: those that match models and tenants."""

    models: Annotated[tuple[Glob, ...], distinct(1, 64)] | None = None
    """Public names of models. Absent: all of the namespace."""
    tenants: Annotated[tuple[Glob, ...], distinct(1, 256)] | None = None
    """Names of tenants. Absent: all of the namespace."""


class SafetyRollout(ApiModel):
    """How the policy is brought into force."""

    mode: Literal["Enforce", "Shadow"] = "Enforce"
    """Shadow: decide and count, but let everything pass."""


class Examples(ApiModel):
    """Texts that show what a rule is meant for. They are run when the policy is accepted."""

    positive: Annotated[tuple[Example, ...], ordered(1, 5)]
    """Texts that the rule must match."""
    negative: Annotated[tuple[Example, ...], ordered(1, 5)]
    """Texts that the rule must not match."""


class SafetyRule(ApiModel):
    """A pattern, and what happens where it matches."""

    validations = (
        Rule(
            "self.examples.negative.all(e, !e.matches(self.pattern))",
            '"{self.pattern}" must be RE2 (no look-around, no back-references) and match none of '
            "examples.negative",
            ".pattern",
        ),
    )

    name: Label
    """Name of the rule, for logs and refusals."""
    stages: Annotated[tuple[Literal["Input"], ...], distinct(1, 1)]
    """Where the rule looks. Input: the text that the client sends."""
    pattern: Annotated[str, Field(min_length=1, max_length=256)]
    """Regular expression in RE2's syntax; it matches anywhere in the text, `(?i)` ignores case."""
    action: Literal["Refuse"]
    """Refuse: the request is refused with the code content_filter."""
    explanation: Annotated[str, Field(max_length=512)] | None = None
    """What the client is told."""
    examples: Examples
    """Texts that show what the rule is meant for."""


class SafetyPolicySpec(ApiModel):
    """What may not pass."""

    applies_to: AppliesTo = AppliesTo()
    """Whose requests are checked."""
    rollout: SafetyRollout = SafetyRollout()
    """How the policy is brought into force."""
    rules: Annotated[tuple[SafetyRule, ...], keyed("name", 0, 64)] = ()
    """Rules of your own. The strictest answer of all matching policies wins."""


class SafetyPolicyStatus(Status):
    """What is in force."""


class SafetyPolicy(Resource):
    """Rules for what clients may send, for some tenants and models or for all."""

    kind = "SafetyPolicy"
    plural = "safetypolicies"
    short_name = "spol"
    columns: ClassVar[tuple[Column, ...]] = (
        READY,
        REASON,
        Column("Mode", ".spec.rollout.mode"),
        AGE,
        MESSAGE,
    )

    spec: SafetyPolicySpec
    """What may not pass."""
    status: SafetyPolicyStatus = Field(default_factory=SafetyPolicyStatus)
    """What is in force, as last found by the operator."""
