"""Whether a route has what it may choose from: variants that guess ahead, and plain ones."""

from collections.abc import Iterator

from headgate_api.conditions import Reason
from headgate_api.routes import Route
from headgate_api.routingpolicy import RoutingPolicy
from headgate_controllers.contract import Note
from headgate_controllers.routingpolicy.observed import Observed


def unchosen(seen: Observed, policy: RoutingPolicy) -> Iterator[Note]:
    """Find routes that speak of guessing and have nothing to choose. They answer all the same."""
    for route in policy.spec.routes:
        if route.speculative is not None and (sentence := _fault(seen, route)):
            field = f"spec.routes[{route.name}].speculative"
            yield Note(Reason.NOT_SUPPORTED_HERE, f"{field}: {sentence}")


def _fault(seen: Observed, route: Route) -> str | None:
    guessing: dict[str, list[bool]] = {}
    for target in route.targets:
        name = target.model_ref.name
        if (model := seen.models.get(name)) is None:
            return None  # nobody knows yet what it has
        listed = target.variants or model.variants
        guessing[name] = [variant in model.guessing for variant in listed]
    mode = route.speculative.mode if route.speculative is not None else "Never"
    if mode != "Never" and not any(map(any, guessing.values())):
        return (
            f"mode {mode} has no variant that guesses among the targets {', '.join(guessing)}; "
            "list one that has speculative in its ModelDeployment, or remove this"
        )
    if only := next((name for name, each in guessing.items() if all(each)), None):
        return (
            f"mode {mode} has no plain variant of {only}, where every request is guessed; list a "
            "twin without speculative, or remove this"
        )
    return None
