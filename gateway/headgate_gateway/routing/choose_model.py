"""Stage `routing`: which ModelDeployment answers to the name that the client wrote?"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from headgate_gateway.calls.call import NOT_READY
from headgate_gateway.refusals import PASS, Code, Refusal, Verdict
from headgate_gateway.request import Request
from headgate_gateway.routing.pods import Pods
from headgate_gateway.routing.tables import Model

SUSPENDED: Final = Refusal(
    Code.MODEL_SUSPENDED, 503, "This model is suspended.", "model", retry_after=60
)
UNKNOWN: Final = Refusal(
    Code.MODEL_NOT_FOUND, 404, "This model does not exist, or your key may not use it.", "model"
)
"""Missing and forbidden look the same: nobody learns the names of models that are not theirs."""


@dataclass(slots=True)
class ChooseModel:
    """A RoutingPolicy that claims the name goes first, then the model that has it.

    Targets without a ready pod leave their share to the others.
    """

    name: ClassVar = "routing"
    undecided: ClassVar = NOT_READY
    budget: ClassVar = 1.0
    pods: Pods
    chance: random.Random = field(default_factory=random.Random)

    def decide(self, request: Request) -> Verdict:
        tenant, name = request.credential.tenant, request.asked.model
        space = request.tables.space(tenant.namespace)
        if not tenant.may_use(name):
            return UNKNOWN
        route = space.routes.get(name)
        if route is None:
            model = space.models.get(name)
            return UNKNOWN if model is None else self._use(request, [(model, 1)])
        request.route = route
        rule = request.rule = route.body.routes[0]
        objects = space.objects
        targets = [(objects.get(t.model), t.weight) for t in rule.targets]
        return self._use(request, [(model, w) for model, w in targets if model is not None and w])

    def _use(self, request: Request, targets: Sequence[tuple[Model, int]]) -> Verdict:
        ready = [(model, weight) for model, weight in targets if self._ready(model)]
        if not ready:
            suspended = bool(targets) and all(model.body.suspended for model, _ in targets)
            return SUSPENDED if suspended else NOT_READY
        request.model = ready[0][0]
        if len(ready) > 1:
            models, shares = zip(*ready, strict=True)
            request.model = self.chance.choices(models, shares)[0]
        return PASS

    def _ready(self, model: Model) -> bool:
        return not model.body.suspended and bool(self.pods.ready(model.pool, model.cohorts))
