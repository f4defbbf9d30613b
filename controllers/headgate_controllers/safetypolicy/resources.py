"""A SafetyPolicy as gateways know it."""

from headgate_api.safetypolicy import SafetyPolicy
from headgate_api.snapshot import InputRule, SafetyBody


def body(policy: SafetyPolicy) -> SafetyBody:
    spec = policy.spec
    return SafetyBody(
        models=spec.applies_to.models,
        tenants=spec.applies_to.tenants,
        shadow=spec.rollout.mode == "Shadow",
        rules=tuple(
            InputRule(name=rule.name, pattern=rule.pattern, explanation=rule.explanation)
            for rule in spec.rules
        ),
    )
