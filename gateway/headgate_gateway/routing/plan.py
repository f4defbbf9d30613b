"""What a request may go through whose first answer need not be its last."""

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from headgate_gateway.routing.decision import Decision
    from headgate_gateway.routing.features import Features
    from headgate_gateway.routing.routes import Route, Step


@final
class Plan:
    """Where such a request begins, and what its way is found by.

    Args:
        route: the policy.
        decision: gets the stages.
        first: where it begins.
        features: for stages that ask for something.
    """

    __slots__ = ("decision", "features", "first", "route")

    def __init__(
        self, route: "Route", decision: "Decision", first: "Step", features: "Features"
    ) -> None:
        self.route = route
        self.decision = decision
        self.first = first
        self.features = features
