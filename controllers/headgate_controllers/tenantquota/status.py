"""TenantQuota's status: one function per state of affairs, named as a reader would say it."""

from dataclasses import replace
from datetime import datetime

from headgate_api.conditions import Mark, Reason
from headgate_api.errors import Invalid
from headgate_api.snapshot import Entry
from headgate_controllers.contract import Manifest, Note, Plan
from headgate_controllers.standing import Subject, in_force, refused, resolved
from headgate_controllers.tenantquota.resources import Keys


def invalid(subject: Subject, error: Invalid, now: datetime) -> Plan:
    return refused(subject, Note(Reason.SPEC_INVALID, str(error)), now)


def tenant_taken(subject: Subject, tenant: str, holder: Manifest, now: datetime) -> Plan:
    """Nothing stays in force: two objects for one tenant would share its windows."""
    meta = holder["metadata"]
    sentence = (
        f'spec.tenant: "{tenant}" belongs to the older TenantQuota '
        f"{meta['namespace']}/{meta['name']}; use another name, or delete one of the two"
    )
    loser = replace(subject, kept=None)
    return refused(loser, Note(Reason.TENANT_CONFLICT, sentence), now, tenant=tenant)


def enforced(
    subject: Subject,
    tenant: str,
    keys: Keys,
    conflict: Note | None,
    now: datetime,
    *,
    entry: Entry,
    requeue_after: float | None,
) -> Plan:
    """The tenant is in force with the keys that are good, whatever is wrong with others."""
    accepted = Mark(
        "Accepted", "True", Reason.QUOTA_ACCEPTED, "the tenant and its keys are this object's alone"
    )
    if conflict is not None:
        accepted = Mark("Accepted", "False", conflict.reason, conflict.sentence)
    return in_force(
        subject,
        accepted,
        resolved(keys.problems),
        Mark("Ready", "True", Reason.ENFORCED, "every gateway knows the tenant and its keys"),
        now,
        entry=entry,
        requeue_after=requeue_after,
        tenant=tenant,
        keysActive=len(keys.active),
        keysExpired=keys.expired,
    )
