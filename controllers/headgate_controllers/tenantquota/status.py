"""TenantQuota's status: one function per state of affairs, named as a reader would say it."""

from dataclasses import replace
from datetime import datetime

from headgate_api.conditions import Mark, Reason
from headgate_api.errors import Invalid
from headgate_api.snapshot import Entry
from headgate_controllers.contract import Manifest, Note, Plan
from headgate_controllers.standing import ALL_RESOLVED, Subject, in_force, refused
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
        _resolved(keys),
        Mark("Ready", "True", Reason.ENFORCED, "every gateway knows the tenant and its keys"),
        now,
        entry=entry,
        requeue_after=requeue_after,
        tenant=tenant,
        keysActive=len(keys.active),
        keysExpired=keys.expired,
    )


def _resolved(keys: Keys) -> Mark:
    """Show the first problem; what is wrong goes before what could not be read."""
    unread = [note for note in keys.problems if note.reason == Reason.SOURCE_UNREADABLE]
    wrong = [note for note in keys.problems if note.reason != Reason.SOURCE_UNREADABLE]
    if wrong:
        return Mark("ResolvedRefs", "False", wrong[0].reason, _sentence(wrong))
    if unread:
        return Mark("ResolvedRefs", "Unknown", unread[0].reason, _sentence(unread))
    return ALL_RESOLVED


def _sentence(problems: list[Note]) -> str:
    more = len(problems) - 1
    return problems[0].sentence + (f", and {more} more like it" if more else "")
