"""Which of a route's targets a request goes to: by weight, and by session, among those ready."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from headgate_api.snapshot import Cohort, Target
from headgate_gateway.calls.failures import NOT_READY
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.request import Request
from headgate_gateway.routing.pods import Pods
from headgate_gateway.routing.pools import Speculating
from headgate_gateway.routing.routes import Step
from headgate_gateway.routing.stage import Why
from headgate_gateway.routing.stickiness import choose, sticky_key, turn
from headgate_gateway.routing.tables import Model

SUSPENDED: Final = Refusal(
    Code.MODEL_SUSPENDED, 503, "This model is suspended.", "model", retry_after=60
)
Models: TypeAlias = dict[str, Model]
"""A namespace's models, by metadata.name."""


@final
class Chosen:
    """Where a request goes.

    Args:
        model: that is asked.
        cohorts: of the model, those that may answer.
        variant: that they are of. Empty: any.
        weight: of the target.
        listed: variants that may answer, as the target lists them. Empty: all.
    """

    __slots__ = ("cohorts", "listed", "model", "variant", "weight", "why")

    def __init__(
        self,
        model: Model,
        cohorts: Mapping[str, Cohort],
        variant: str = "",
        *,
        weight: int = 1,
        listed: tuple[str, ...] = (),
    ) -> None:
        self.model = model
        self.cohorts = cohorts
        self.variant = variant
        self.why: Why = "only"
        self.weight = weight
        self.listed = listed


@dataclass(slots=True)
class Targets:
    """Targets without a ready pod leave their share to the others."""

    pods: Pods
    speculating: Speculating
    chance: random.Random = field(default_factory=random.Random)

    def of(self, request: Request, step: Step, models: Models) -> Chosen | Refusal:
        """Choose a target of the route."""
        targets = step.rule.targets
        if len(targets) == 1 and targets[0].weight > 0:
            return self._ready(targets[0], models) or _nobody(targets, models)
        ready = [
            chosen
            for target in targets
            if target.weight > 0 and (chosen := self._ready(target, models)) is not None
        ]
        if not ready:
            return _nobody(targets, models)
        return ready[0] if len(ready) == 1 else self._one_of(ready, request, step)

    def direct(self, model: Model) -> Chosen | Refusal:
        """Take a model that no policy claims."""
        if model.suspended:
            return SUSPENDED
        ready = self.pods.ready(model.pool, model.cohorts)
        return Chosen(model, model.cohorts) if ready else NOT_READY

    def _ready(self, target: Target, models: Models) -> Chosen | None:
        model = models.get(target.model)
        if model is None or model.suspended:
            return None
        if not target.variants:
            ready = self.pods.ready(model.pool, model.cohorts)
            return Chosen(model, model.cohorts, weight=target.weight) if ready else None
        for variant in target.variants:
            cohorts = model.of_variant(variant)
            if cohorts and self.pods.ready(model.pool, cohorts):
                return Chosen(model, cohorts, variant, weight=target.weight, listed=target.variants)
        return None

    def _one_of(self, ready: Sequence[Chosen], request: Request, step: Step) -> Chosen:
        stickiness = request.policy.stickiness
        key = sticky_key(stickiness, request)
        if key is None:
            (chosen,) = self.chance.choices(ready, [one.weight for one in ready])
            chosen.why = "weight"
            return chosen
        place = f"\0{step.label}".encode()
        shares = [(one, f"{one.model.identity.name}/{one.variant}", one.weight) for one in ready]
        chosen = choose(turn(key, request.now, stickiness.ttl) + place, shares)
        chosen.why = "sticky"
        return chosen


def _nobody(targets: Sequence[Target], models: Models) -> Refusal:
    found = [model for target in targets if (model := models.get(target.model)) is not None]
    suspended = bool(found) and all(model.suspended for model in found)
    return SUSPENDED if suspended else NOT_READY
