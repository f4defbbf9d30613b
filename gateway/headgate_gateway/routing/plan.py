"""What a request may go through whose first answer need not be its last."""

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from headgate_gateway.routing.decision import Decision
    from headgate_gateway.routing.features import Features
    from headgate_gateway.routing.routes import Route, Step


class Plan(Struct, frozen=True):
    route: "Route"
    """The policy."""
    decision: "Decision"
    """Gets the stages."""
    first: "Step"
    """Where it begins."""
    features: "Features"
    """For stages that ask for something."""
