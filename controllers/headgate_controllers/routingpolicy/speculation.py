"""Whether a route has what it may choose from: variants that guess ahead, and plain ones."""

from collections.abc import Iterator, Sequence

from headgate_api.conditions import Reason
from headgate_api.routes import Target
from headgate_api.routingpolicy import RoutingPolicy
from headgate_api.snapshot import SpeculationMode
from headgate_controllers.contract import Note
from headgate_controllers.routingpolicy.observed import Observed


def unchosen(seen: Observed, policy: RoutingPolicy) -> Iterator[Note]:
    """Find routes that speak of guessing and have nothing to choose. They answer all the same."""
    for route in policy.spec.routes:
        said = route.speculative
        if said is not None and (sentence := _fault(seen, route.targets, said.mode)):
            field = f"spec.routes[{route.name}].speculative"
            yield Note(Reason.NOT_SUPPORTED_HERE, f"{field}: mode {said.mode} has {sentence}")


def _fault(seen: Observed, targets: Sequence[Target], mode: SpeculationMode) -> str | None:
    kinds: list[tuple[str, set[bool]]] = []  # of variants, by the name of their model
    for target in targets:
        name = target.model_ref.name
        if (model := seen.models.get(name)) is None:
            return None  # nobody knows yet what it has
        listed = target.variants or model.variants
        kinds.append((name, {variant in model.guessing for variant in listed}))
    if mode != "Never" and not any(True in guesses for _, guesses in kinds):
        names = ", ".join(dict.fromkeys(name for name, _ in kinds))
        return (
            f"no variant that guesses among the targets {names}; list one that has speculative in "
            "its ModelDeployment, or remove this"
        )
    if only := next((name for name, guesses in kinds if guesses == {True}), None):
        return (
            f"no plain variant of {only}, where every request is guessed; list a twin without "
            "speculative, or remove this"
        )
    return None
