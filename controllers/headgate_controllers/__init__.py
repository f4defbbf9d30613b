"""Pure decisions: one folder for each kind, and what they promise the operator (`contract`)."""

from typing import Any, Final

from headgate_controllers.contract import Controller
from headgate_controllers.modeldeployment.controller import CONTROLLER as MODEL_DEPLOYMENT
from headgate_controllers.routingpolicy.controller import CONTROLLER as ROUTING_POLICY
from headgate_controllers.safetypolicy.controller import CONTROLLER as SAFETY_POLICY
from headgate_controllers.tenantquota.controller import CONTROLLER as TENANT_QUOTA

ALL: Final[tuple[Controller[Any], ...]] = (
    MODEL_DEPLOYMENT,
    ROUTING_POLICY,
    TENANT_QUOTA,
    SAFETY_POLICY,
)
"""Every controller of the operator."""
