"""What one RoutingPolicy needs now. Pure: no I/O, no clock, no randomness, no cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from headgate_api.conditions import Reason
from headgate_api.errors import Invalid
from headgate_api.routingpolicy import RoutingPolicy
from headgate_controllers.contract import Note, Plan
from headgate_controllers.routingpolicy import resources, status
from headgate_controllers.standing import Subject, refused
from headgate_policy.snapshot import make_entry

Target: TypeAlias = Literal["Answers", "Starts", "Fails", "Missing"]


@dataclass(frozen=True, slots=True)
class Observed:
    """All that this decision may depend on."""

    subject: Subject
    policy: RoutingPolicy | Invalid
    created: int = 0
    winners: Mapping[str, str] = field(default_factory=dict)
    """By name of a model: the RoutingPolicy that has it instead of this one."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """By name of a ModelDeployment: how it does."""


def plan(seen: Observed, now: datetime) -> Plan:
    """Decide what `seen` calls for at `now`."""
    policy = seen.policy
    if isinstance(policy, Invalid):
        return refused(seen.subject, Note(Reason.SPEC_INVALID, str(policy)), now)
    held = [name for name in policy.spec.models if name not in seen.winners]
    entry = None
    if held:
        body = resources.body(policy, held, seen.created)
        entry = make_entry(
            seen.subject.identity,
            uid=seen.subject.uid,
            generation=seen.subject.generation,
            body=body,
            requires=resources.requires(body),
        )
    return status.routed(
        seen.subject, policy.spec.models, seen.winners, seen.targets, now, entry=entry
    )
