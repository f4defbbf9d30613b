"""What routes refer to: models, their variants, and the instructions of verifiers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headgate_api.conditions import Mark, Reason
from headgate_api.routes import Route, Target
from headgate_api.routingpolicy import RoutingPolicy
from headgate_controllers.contract import Document, Key, Note
from headgate_controllers.routingpolicy.acceptance import Conditions
from headgate_controllers.routingpolicy.observed import Observed
from headgate_controllers.standing import entry_fault, resolved

_TELL: Final[Mapping[str, Sequence[str]]] = {
    "answer.logprob.mean": ("triton-python", "trtllm-serve"),
    "answer.logprob.min": ("trtllm-serve",),
}
"""Words of answers that only some runtimes tell."""
_CONVERSES: Final = "trtllm-serve"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of the references."""

    mark: Mark
    usable: bool
    """False: with what is missing the policy would do something else than it says."""
    instructions: Mapping[str, str]
    """Of verifiers, by the name of their route."""


def resolve(
    seen: Observed, policy: RoutingPolicy, conditions: Mapping[str, Conditions]
) -> Resolved:
    """Check every reference.

    A model that is not there may come, and its route just has no pods until then. A variant that
    its model does not have, or instructions that nobody has ever seen, keep the policy back.
    """
    absent: list[Note] = []
    wrong: list[Note] = []
    doubtful: list[Note] = []
    instructions: dict[str, str] = {}
    for route in policy.spec.routes:
        absent += _absent(seen, route)
        wrong += _wrong(seen, route, conditions[route.name])
        text, fault = _instructions(seen, policy, route)
        if text is not None:
            instructions[route.name] = text
        if fault is not None:
            (wrong if text is None else doubtful).append(fault)
    return Resolved(resolved(wrong or [*absent, *doubtful]), not wrong, instructions)


def _absent(seen: Observed, route: Route) -> Iterator[Note]:
    field = f"spec.routes[{route.name}]"
    named = [(f"{field}.targets", target.model_ref.name) for target in route.targets]
    if route.verifier is not None:
        named.append((f"{field}.verifier", route.verifier.model_ref.name))
    for place, name in named:
        if name not in seen.models:
            sentence = f'{place}: there is no ModelDeployment "{name}" in this namespace'
            yield Note(Reason.MODEL_NOT_FOUND, sentence)


def _wrong(seen: Observed, route: Route, conditions: Conditions) -> Iterator[Note]:
    field = f"spec.routes[{route.name}]"
    for target in route.targets:
        yield from _variants(seen, target, f"{field}.targets")
    runtimes = {
        seen.models[target.model_ref.name].runtime
        for target in route.targets
        if target.model_ref.name in seen.models
    }
    for word in sorted(conditions.accept_words):
        tell = _TELL.get(word)
        if tell is not None and runtimes and runtimes.isdisjoint(tell):
            sentence = (
                f"{field}.acceptWhen: no model server of this route tells {word}; only "
                f"runtime.type {' or '.join(tell)} does, and its targets have "
                f"{', '.join(sorted(runtimes))}"
            )
            yield Note(Reason.CAPABILITY_MISSING, sentence)


def broken_off(seen: Observed, policy: RoutingPolicy) -> Iterator[Note]:
    """Find routes that are to go on with an answer whose runtime can only begin another one."""
    for route in policy.spec.routes:
        named = {target.model_ref.name for target in route.targets}
        models = sorted(
            name for name in named & seen.models.keys() if seen.models[name].runtime == _CONVERSES
        )
        if route.streaming.on_upstream_loss == "Continue" and models:
            sentence = (
                f"spec.routes[{route.name}].streaming.onUpstreamLoss: chats with "
                f"{' and '.join(models)} do not go on at another pod, since runtime.type "
                f"{_CONVERSES} would begin a new answer; their streams end with the error"
            )
            yield Note(Reason.NOT_SUPPORTED_HERE, sentence)


def _variants(seen: Observed, target: Target, field: str) -> Iterator[Note]:
    name = target.model_ref.name
    if (model := seen.models.get(name)) is None:
        return
    for variant in target.variants:
        if variant not in model.variants:
            sentence = (
                f'{field}: ModelDeployment "{name}" has no variant "{variant}"; '
                f"it has {', '.join(model.variants)}"
            )
            yield Note(Reason.VARIANT_NOT_FOUND, sentence)


def _instructions(
    seen: Observed, policy: RoutingPolicy, route: Route
) -> tuple[str | None, Note | None]:
    """Find what a route's verifier is told; where it cannot be found, what it was told before."""
    if route.verifier is None or (ref := route.verifier.instructions_key_ref) is None:
        return "", None
    key = Key("ConfigMap", policy.metadata.namespace, ref.name)
    found = seen.documents[key]
    if isinstance(found, Document) and ref.key in found.data:
        return found.data[ref.key].decode(errors="replace"), None
    entries = found.data if isinstance(found, Document) else found
    field = f"spec.routes[{route.name}].verifier.instructionsKeyRef"
    fault = entry_fault(entries, key, ref.key, field)
    before = [] if seen.kept is None else seen.kept.routes
    kept = (rule.verifier for rule in before if rule.name == route.name)
    return next((verifier.instructions for verifier in kept if verifier is not None), None), fault
