"""What one RoutingPolicy needs now. Pure: no I/O, no clock, no randomness, no cache."""

from datetime import datetime

from headgate_api.conditions import Reason
from headgate_api.errors import Invalid
from headgate_controllers.contract import Note, Plan
from headgate_controllers.routingpolicy import acceptance, resources, status
from headgate_controllers.routingpolicy.observed import Observed
from headgate_controllers.routingpolicy.references import broken_off, resolve
from headgate_controllers.routingpolicy.speculation import unchosen
from headgate_controllers.standing import held_back, refused, together
from headgate_policy.snapshot import make_entry


def plan(seen: Observed, now: datetime) -> Plan:
    """Decide what `seen` calls for at `now`."""
    subject, policy = seen.subject, seen.policy
    if isinstance(policy, Invalid):
        return refused(subject, Note(Reason.SPEC_INVALID, str(policy)), now)
    conditions, faults = acceptance.conditions_of(policy)
    faults += [*acceptance.never(policy, conditions), *acceptance.loops(policy)]
    resolved = resolve(seen, policy, conditions)
    if faults:
        finding = Note(faults[0].reason, together(faults))
        others = () if resolved.mark.status == "True" else (resolved.mark,)
        return refused(subject, finding, now, *others)
    if not resolved.usable:
        return held_back(subject, resolved.mark, now)
    held = [name for name in policy.spec.models if name not in seen.winners]
    entry = None
    if held:
        body = resources.body(policy, held, seen.created, resolved.instructions)
        entry = make_entry(
            subject.identity,
            uid=subject.uid,
            generation=subject.generation,
            body=body,
            requires=resources.requires(body),
        )
    honored = acceptance.honored(
        [
            *acceptance.unmeasured(policy, conditions),
            *unchosen(seen, policy),
            *broken_off(seen, policy),
        ]
    )
    return status.routed(seen, policy, resolved.mark, honored, now, entry=entry)
