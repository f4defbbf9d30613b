"""TenantQuota (`tq`): who may call, with which keys, and which models."""

from datetime import datetime
from typing import Annotated, ClassVar

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
)
from headgate_api.snapshot import Grant, Priority
from headgate_api.types import DataKey, Glob, Label, Ref, Tokens


class Key(ApiModel):
    """What is known of one API key."""

    name: DataKey
    """Entry of the Secret; also the key's id in logs."""
    expires_at: datetime | None = None
    """From then on the key is refused, such as "2027-06-30T00:00:00Z"."""
    user: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """User of the tenant who holds the key."""
    tier: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    """Tier of that user, such as "premium": `user.tier` in the rules of routes."""


class ApiKeys(ApiModel):
    """API keys that a Secret holds, one in each entry."""

    secret_ref: Ref
    """The Secret. Each entry of its data is a key of at least 32 characters."""
    keys: Annotated[tuple[Key, ...], keyed("name", 0, 256)] = ()
    """More about single entries. An entry that is not listed is a key without an end."""


class Credential(ApiModel):
    """One way for the tenant's clients to show who they are."""

    name: Label
    """Name of the credential."""
    api_keys: ApiKeys
    """Keys that clients send as `Authorization: Bearer ...`."""


class RequestLimit(ApiModel):
    """What one request may use: all stages of its route together, with verifiers and retries."""

    max_total_tokens: Tokens | None = None
    """Tokens that models read and write for it. An answer ends where they do, and a call for which
    none are left is not made: token_budget_exceeded. Absent: no limit."""
    max_calls: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Calls of model servers. One more is not made: call_budget_exceeded. Absent: no limit."""


class Limits(ApiModel):
    """How much."""

    request: RequestLimit | None = None
    """What one request may use. Absent: no limit."""


class TenantQuotaSpec(ApiModel):
    """Who, and what they may use."""

    validations = (
        Rule(
            "has(self.tenant) == has(oldSelf.tenant) && "
            "(!has(self.tenant) || self.tenant == oldSelf.tenant)",
            "cannot change: windows and the ledger belong to it; "
            "make a new TenantQuota for another tenant",
            ".tenant",
        ),
        Rule(
            "!has(self.allowedModels) || self.allowedModels.size() == 1 || "
            "!('*' in self.allowedModels)",
            "'*' allows everything; remove the other names or the '*'",
            ".allowedModels",
        ),
    )

    tenant: Label | None = None
    """Name of the tenant in logs and metrics. Absent: metadata.name. It cannot change."""
    credentials: Annotated[tuple[Credential, ...], keyed("name", 1, 32)]
    """How the tenant's clients show who they are."""
    allowed_models: Annotated[tuple[Glob, ...], distinct(1, 256)] | None = None
    """Public names that the tenant may use; `*` stands for any characters. Absent: every name of
    this namespace."""
    priority: Priority = "Standard"
    """How much the tenant's work matters: `tenant.priority` in the rules of routes."""
    grants: Annotated[tuple[Grant, ...], distinct(0, 8)] = ()
    """Rights beyond calling models. Explain: to ask with `x-headgate-explain: 1` how a request was
    decided."""
    limits: Limits | None = None
    """How much the tenant may use. Absent: no limit."""


class TenantQuotaStatus(Status):
    """What is in force."""

    tenant: Annotated[str, Field(max_length=63)] | None = None
    """Name of the tenant."""
    keys_active: int | None = None
    """API keys that are accepted."""
    keys_expired: int | None = None
    """API keys that are past their end."""


class TenantQuota(Resource):
    """A tenant: who may call, with which keys, and which models."""

    kind = "TenantQuota"
    plural = "tenantquotas"
    short_name = "tq"
    columns: ClassVar[tuple[Column, ...]] = (
        READY,
        REASON,
        Column("Tenant", ".status.tenant"),
        AGE,
        Column("Keys", ".status.keysActive", "integer", wide=True),
        MESSAGE,
    )
    validations = (
        Rule(
            "has(self.spec.tenant) || "
            "(size(self.metadata.name) <= 63 && !self.metadata.name.contains('.'))",
            '"{self.metadata.name}" is no name of a tenant (63 characters, no dots); '
            "give spec.tenant",
            ".metadata.name",
        ),
    )

    spec: TenantQuotaSpec
    """Who, and what they may use."""
    status: TenantQuotaStatus = Field(default_factory=TenantQuotaStatus)
    """What is in force, as last found by the operator."""
