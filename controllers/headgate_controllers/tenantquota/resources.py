"""A tenant as gateways know it, built from the spec and from what its Secrets hold."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, TypeAlias

from headgate_api.conditions import Reason
from headgate_api.snapshot import ApiKey, RequestLimits, TenantBody
from headgate_api.tenantquota import Credential, Key, Limits, TenantQuota
from headgate_controllers.contract import Document, Found, Missing, Note, Unreadable

SHORTEST: Final = 32
"""Characters of a key: fewer can be guessed."""
LONGEST: Final = 8 * 1024
"""Characters of a key: no line of a header is longer, at the latest behind the next proxy."""
SENDABLE: Final = frozenset(range(0x20, 0x7F))
"""What a header may carry (RFC 9110, 5.5); clients refuse to send anything else."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What we may know of a key. The key itself stays in its Secret."""

    sha256: str
    length: int
    sendable: bool = True
    """Whether a header can carry its characters."""

    @property
    def usable(self) -> bool:
        return self.sendable and SHORTEST <= self.length <= LONGEST


Prints: TypeAlias = Mapping[str, Fingerprint]
"""The keys of one Secret, by its entries."""


def fingerprints(found: Found) -> Prints | Missing | Unreadable:
    """Take the fingerprints of a Secret's keys, without the line end that `echo` adds."""
    if not isinstance(found, Document):
        return found
    keys = {name: value.strip() for name, value in found.data.items()}
    return {
        name: Fingerprint(sha256(key).hexdigest(), len(key), SENDABLE.issuperset(key))
        for name, key in keys.items()
    }


@dataclass(frozen=True, slots=True)
class Keys:
    """The tenant's keys, and what is wrong with others."""

    active: tuple[ApiKey, ...]
    expired: int
    problems: tuple[Note, ...]
    next_end: datetime | None
    """When the next active key expires."""


def keys_of(
    quota: TenantQuota,
    secrets: Mapping[str, Prints | Missing | Unreadable],
    kept: Collection[ApiKey],
    taken: Collection[str],
    now: datetime,
) -> Keys:
    """Collect the keys that are in force.

    Args:
        quota: which Secrets, and what is known of single keys.
        secrets: what was found of each Secret that the spec names.
        kept: keys in force until now; they stay while their Secret cannot be read.
        taken: digests of keys that belong to other tenants.
        now: keys that end by then are expired.
    """
    active: dict[str, ApiKey] = {}
    problems: list[Note] = []
    expired: set[str] = set()
    ends: list[datetime] = []
    for credential in quota.spec.credentials:
        source = credential.api_keys
        secret = source.secret_ref.name
        found = secrets[secret]
        problems.extend(_problems(credential, found))
        if isinstance(found, Unreadable):
            active |= {key.sha256: key for key in kept if key.secret == secret}
        if isinstance(found, Missing | Unreadable):
            continue
        about = {key.name: key for key in source.keys}
        for name, fingerprint in sorted(found.items()):
            if not fingerprint.usable or fingerprint.sha256 in taken:
                continue
            key = _api_key(secret, name, fingerprint, about.get(name))
            end = about[name].expires_at if name in about else None
            if end is not None and end <= now:
                expired.add(key.sha256)
                continue
            ends += [] if end is None else [end]
            active.setdefault(key.sha256, key)
    keys = tuple(sorted(active.values(), key=lambda key: (key.secret, key.name, key.sha256)))
    return Keys(keys, len(expired - active.keys()), tuple(problems), min(ends, default=None))


def body(quota: TenantQuota, keys: Iterable[ApiKey]) -> TenantBody:
    return TenantBody(
        tenant=tenant(quota),
        keys=tuple(keys),
        allowed_models=quota.spec.allowed_models,
        priority=quota.spec.priority,
        grants=tuple(sorted(quota.spec.grants)),
        request=_request_limits(quota.spec.limits),
    )


def requires(body: TenantBody) -> tuple[str, ...]:
    """Words that a gateway must know: one that ignored a limit would not enforce the object."""
    return () if body.request is None else ("request-budget",)


def tenant(quota: TenantQuota) -> str:
    return quota.spec.tenant or quota.metadata.name


def _request_limits(limits: Limits | None) -> RequestLimits | None:
    said = None if limits is None else limits.request
    if said is None or (said.max_total_tokens is None and said.max_calls is None):
        return None
    return RequestLimits(max_total_tokens=said.max_total_tokens, max_calls=said.max_calls)


def _problems(credential: Credential, found: Prints | Missing | Unreadable) -> Iterator[Note]:
    """Say which keys are not in force, and why."""
    field, source = f"spec.credentials[{credential.name}].apiKeys", credential.api_keys
    secret = f'Secret "{source.secret_ref.name}"'
    where = f"{field}.secretRef: {secret}"
    if isinstance(found, Missing):
        yield Note(Reason.SECRET_NOT_FOUND, f"{field}.secretRef: there is no {secret}")
        return
    if isinstance(found, Unreadable):
        sentence = f"{where} cannot be read ({found.why}); its keys stay in force"
        yield Note(Reason.SOURCE_UNREADABLE, sentence)
        return
    if not found:
        yield Note(Reason.SECRET_EMPTY, f"{where} has no entries; each one would be a key")
    for key in source.keys:
        if key.name not in found:
            sentence = f'{field}.keys[{key.name}]: {secret} has no entry "{key.name}"'
            yield Note(Reason.KEY_NOT_FOUND, sentence)
    for name, fingerprint in sorted(found.items()):
        entry = f'{where} has an entry "{name}"'
        if fingerprint.length < SHORTEST:
            sentence = f"{entry} of {fingerprint.length} characters; a key has {SHORTEST} or more"
            yield Note(Reason.KEY_TOO_SHORT, sentence)
        elif fingerprint.length > LONGEST:
            sentence = f"{entry} of {fingerprint.length} characters; a key has at most {LONGEST}"
            yield Note(Reason.KEY_UNUSABLE, sentence)
        elif not fingerprint.sendable:
            sentence = f"{entry} that no client can send; a key is of printable ASCII characters"
            yield Note(Reason.KEY_UNUSABLE, sentence)


def _api_key(secret: str, name: str, fingerprint: Fingerprint, about: Key | None) -> ApiKey:
    end = None if about is None else about.expires_at
    return ApiKey(
        sha256=fingerprint.sha256,
        name=name,
        secret=secret,
        user=None if about is None else about.user,
        tier=None if about is None else about.tier,
        expires_at=None if end is None else int(end.timestamp()),
    )
