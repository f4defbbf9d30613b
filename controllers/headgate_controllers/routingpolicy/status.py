"""RoutingPolicy's status: what became of its names, and which routes have an answer to give."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from headgate_api.conditions import Mark, Reason
from headgate_api.routes import Route, Target
from headgate_api.routingpolicy import RoutingPolicy
from headgate_api.snapshot import Entry
from headgate_controllers.contract import Plan
from headgate_controllers.routingpolicy.observed import Model, Observed, State
from headgate_controllers.standing import and_more, in_force

_BEST: Final[tuple[State, ...]] = ("Answers", "Starts", "Fails", "Missing")
_ROUTE: Final[Mapping[State, tuple[Reason, str]]] = {
    "Answers": (Reason.SERVING, "a model behind the route answers"),
    "Starts": (Reason.NO_TARGET_READY, "no model behind the route answers yet"),
    "Fails": (Reason.NO_TARGET_READY, "no model behind the route answers"),
    "Missing": (Reason.MODEL_NOT_FOUND, "no model that the route names is there"),
}
_FIXED: Final = (Reason.SERVING, "the route gives a fixed answer")


def routed(
    seen: Observed,
    policy: RoutingPolicy,
    resolved: Mark,
    honored: Mark,
    now: datetime,
    *,
    entry: Entry | None,
) -> Plan:
    """The policy is in force for the names that it has."""
    models, winners = policy.spec.models, seen.winners
    claims = [
        {"name": name, "state": "Lost", "heldBy": winners[name]}
        if name in winners
        else {"name": name, "state": "Held"}
        for name in models
    ]
    return in_force(
        seen.subject,
        _accepted(models, winners),
        resolved,
        _ready(policy, seen.models),
        now,
        entry=entry,
        honored=honored,
        claimed=len(models) - len(winners),
        models=claims,
        routes=[_route(route, seen.models) for route in policy.spec.routes],
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


def _ready(policy: RoutingPolicy, models: Mapping[str, Model]) -> Mark:
    """Say whether everybody gets an answer: the last Entry route takes what others leave."""
    entries = [route for route in policy.spec.routes if route.role == "Entry"]
    last = entries[-1]
    behind = "the policy" if len(entries) == 1 else f"{last.name}, the last route,"
    if last.respond is not None:
        return Mark("Ready", "True", Reason.SERVING, f"{behind} gives a fixed answer")
    state = _state(last, models)
    if state == "Answers":
        return Mark("Ready", "True", Reason.SERVING, f"a model behind {behind} answers")
    if state == "Starts":  # no failure
        sentence = f"no model behind {behind} answers yet"
        return Mark("Ready", "Unknown", Reason.NO_TARGET_READY, sentence)
    return Mark("Ready", "False", Reason.NO_TARGET_READY, f"no model behind {behind} answers")


def _route(route: Route, models: Mapping[str, Model]) -> dict[str, Any]:
    state = _state(route, models)
    reason, sentence = _FIXED if route.respond is not None else _ROUTE[state]
    ready = state == "Answers"
    return {"name": route.name, "ready": ready, "reason": str(reason), "message": sentence}


def _state(route: Route, models: Mapping[str, Model]) -> State:
    """How the best of its targets does."""
    if route.respond is not None:
        return "Answers"
    states = {_target(target, models) for target in route.targets if target.weight > 0}
    return next((state for state in _BEST if state in states), "Missing")


def _target(target: Target, models: Mapping[str, Model]) -> State:
    if (model := models.get(target.model_ref.name)) is None:
        return "Missing"
    named = not target.variants or any(model.variants.get(name) for name in target.variants)
    if model.answers and named:
        return "Answers"
    return "Starts" if model.starts else "Fails"
