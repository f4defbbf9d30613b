"""SafetyPolicy: what wakes it, and what a pass may look at."""

from typing import Final

from headgate_api.errors import Invalid
from headgate_api.safetypolicy import SafetyPolicy
from headgate_controllers.contract import (
    Cache,
    Controller,
    Environment,
    Key,
    Manifest,
    Watch,
    key_of,
    nothing,
)
from headgate_controllers.safetypolicy.plan import Observed, plan
from headgate_controllers.standing import subject_of

KIND: Final = "SafetyPolicy"


def observe(key: Key, cache: Cache, env: Environment) -> Observed | None:
    """Look at the object alone: its rules stand for themselves."""
    if (subject := subject_of(key, cache)) is None:
        return None
    try:
        return Observed(subject, SafetyPolicy.parse(subject.manifest))
    except Invalid as error:
        return Observed(subject, error)


def _itself(manifest: Manifest, cache: Cache) -> list[Key]:
    return [key_of(manifest)]


CONTROLLER = Controller(
    kind=KIND,
    watches=(Watch(KIND, wakes=_itself),),
    references=nothing,
    observe=observe,
    plan=plan,
)
