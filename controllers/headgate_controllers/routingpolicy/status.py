"""RoutingPolicy's status: what became of its names, and whether anything answers behind them."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from headgate_api.conditions import Mark, Reason
from headgate_api.snapshot import Entry
from headgate_controllers.contract import Plan
from headgate_controllers.standing import ALL_RESOLVED, Subject, and_more, in_force


def routed(
    subject: Subject,
    models: Sequence[str],
    winners: Mapping[str, str],
    targets: Mapping[str, str],
    now: datetime,
    *,
    entry: Entry | None,
) -> Plan:
    """The policy is in force for the names that it has."""
    claims = [
        {"name": name, "state": "Lost", "heldBy": winners[name]}
        if name in winners
        else {"name": name, "state": "Held"}
        for name in models
    ]
    return in_force(
        subject,
        _accepted(models, winners),
        _resolved(targets),
        _ready(targets),
        now,
        entry=entry,
        claimed=len(models) - len(winners),
        models=claims,
    )


def _accepted(models: Sequence[str], winners: Mapping[str, str]) -> Mark:
    if not winners:
        return Mark("Accepted", "True", Reason.POLICY_ACCEPTED, "the policy has all its names")
    lost = next(name for name in models if name in winners)
    sentence = (
        f'spec.models: "{lost}" belongs to the older RoutingPolicy {winners[lost]}'
        f"{and_more(len(winners))}; remove it here or there"
    )
    return Mark("Accepted", "False", Reason.MODEL_NAME_CONFLICT, sentence)


def _resolved(targets: Mapping[str, str]) -> Mark:
    missing = [name for name, state in targets.items() if state == "Missing"]
    if not missing:
        return ALL_RESOLVED
    sentence = (
        f'spec.routes[0].targets: there is no ModelDeployment "{missing[0]}"'
        f"{and_more(len(missing))} in this namespace"
    )
    return Mark("ResolvedRefs", "False", Reason.MODEL_NOT_FOUND, sentence)


def _ready(targets: Mapping[str, str]) -> Mark:
    """A target that is merely starting is no failure."""
    states = set(targets.values())
    if "Answers" in states:
        return Mark("Ready", "True", Reason.SERVING, "a model behind the policy answers")
    if "Starts" in states:
        sentence = "no model behind the policy answers yet"
        return Mark("Ready", "Unknown", Reason.NO_TARGET_READY, sentence)
    sentence = "no model behind the policy answers"
    return Mark("Ready", "False", Reason.NO_TARGET_READY, sentence)
