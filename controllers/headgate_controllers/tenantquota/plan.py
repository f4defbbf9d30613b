"""What one TenantQuota needs now. Pure: no I/O, no clock, no randomness, no cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, cast

from headgate_api.conditions import Reason
from headgate_api.errors import Invalid
from headgate_api.snapshot import ApiKey, TenantBody
from headgate_api.tenantquota import TenantQuota
from headgate_controllers.contract import Manifest, Missing, Note, Plan, Unreadable
from headgate_controllers.standing import Subject
from headgate_controllers.tenantquota import resources, status
from headgate_controllers.tenantquota.resources import Prints
from headgate_policy.snapshot import decode_body, make_entry

CONFLICT_PERIOD: Final = 30.0
"""Seconds: nothing tells us when the other tenant's Secret loses the key that we share."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Another TenantQuota in whose entry in force a key lies."""

    namespace: str
    name: str
    created: int


@dataclass(frozen=True, slots=True)
class Observed:
    """All that this decision may depend on."""

    subject: Subject
    quota: TenantQuota | Invalid
    created: int = 0
    senior: Manifest | None = None
    """An older TenantQuota for the same tenant."""
    secrets: Mapping[str, Prints | Missing | Unreadable] = field(default_factory=dict)
    holders: Mapping[str, tuple[Holder, ...]] = field(default_factory=dict)
    """By digest of a key: who else has it."""

    @property
    def kept_keys(self) -> tuple[ApiKey, ...]:
        kept = self.subject.kept
        return () if kept is None else cast(TenantBody, decode_body(kept)).keys


def plan(seen: Observed, now: datetime) -> Plan:
    """Decide what `seen` calls for at `now`."""
    quota = seen.quota
    if isinstance(quota, Invalid):
        return status.invalid(seen.subject, quota, now)
    if seen.senior is not None:
        return status.tenant_taken(seen.subject, resources.tenant(quota), seen.senior, now)
    taken = conflicts(seen)
    keys = resources.keys_of(quota, seen.secrets, seen.kept_keys, taken, now)
    body = resources.body(quota, keys.active)
    entry = make_entry(
        seen.subject.identity,
        uid=seen.subject.uid,
        generation=seen.subject.generation,
        body=body,
        requires=resources.requires(body),
    )
    ends_in = None if keys.next_end is None else (keys.next_end - now).total_seconds()
    waits = [wait for wait in (ends_in, CONFLICT_PERIOD if taken else None) if wait is not None]
    return status.enforced(
        seen.subject,
        resources.tenant(quota),
        keys,
        next(iter(taken.values()), None),
        now,
        entry=entry,
        requeue_after=min(waits, default=None),
    )


def conflicts(seen: Observed) -> dict[str, Note]:
    """Find the keys that are another tenant's, by digest.

    A key in force stays where it is; where two have it in force, the older object has it.
    """
    mine = {key.sha256 for key in seen.kept_keys}
    me = (seen.created, seen.subject.identity.namespace, seen.subject.identity.name)
    found: dict[str, Note] = {}
    for secret, prints in sorted(seen.secrets.items()):
        if isinstance(prints, Missing | Unreadable):
            continue
        for name, fingerprint in sorted(prints.items()):
            digest = fingerprint.sha256
            for other in seen.holders.get(digest, ()):
                older = (other.created, other.namespace, other.name) < me
                if older or digest not in mine:
                    found.setdefault(digest, _taken(secret, name, other))
    return found


def _taken(secret: str, entry: str, other: Holder) -> Note:
    sentence = (
        f'entry "{entry}" of Secret "{secret}" is also a key of TenantQuota '
        f"{other.namespace}/{other.name}; make a new key for one of the two"
    )
    return Note(Reason.KEY_CONFLICT, sentence)
