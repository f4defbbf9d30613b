"""SafetyPolicy's status."""

from datetime import datetime
from typing import Literal

from headgate_api.conditions import Mark, Reason
from headgate_api.snapshot import Entry
from headgate_controllers.contract import Plan
from headgate_controllers.standing import ALL_RESOLVED, Subject, in_force

ACCEPTED = Mark("Accepted", "True", Reason.POLICY_ACCEPTED, "every rule does what its examples say")
ENFORCED = Mark("Ready", "True", Reason.ENFORCED, "every gateway enforces the rules")
SHADOWING = Mark(
    "Ready", "True", Reason.SHADOWING, "every gateway counts what the rules match and lets it pass"
)


def enforced(
    subject: Subject, mode: Literal["Enforce", "Shadow"], now: datetime, *, entry: Entry
) -> Plan:
    ready = SHADOWING if mode == "Shadow" else ENFORCED
    return in_force(subject, ACCEPTED, ALL_RESOLVED, ready, now, entry=entry)
