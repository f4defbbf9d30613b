"""Whether a ModelDeployment makes sense here: small checks, each with its reason and sentence."""

from collections.abc import Callable, Iterator
from typing import Final

from headgate_api.conditions import Reason
from headgate_api.errors import Invalid
from headgate_api.modeldeployment import ModelDeployment
from headgate_api.variants import Variant
from headgate_controllers.contract import Note
from headgate_controllers.modeldeployment.gpus import (
    PRECISIONS,
    Capability,
    capability_of,
    parse_capability,
    runs,
)
from headgate_controllers.modeldeployment.observed import Observed
from headgate_controllers.modeldeployment.resources import public_name
from headgate_policy.chat import check_template


def name_is_free(seen: Observed, mdep: ModelDeployment) -> Note | None:
    if seen.senior is None:
        return None
    holder = seen.senior["metadata"]["name"]
    sentence = (
        f'spec.model.name: "{public_name(mdep)}" belongs to the older ModelDeployment {holder}; '
        "choose another name, and claim this one in a RoutingPolicy"
    )
    return Note(Reason.NAME_CONFLICT, sentence)


def products_are_known(seen: Observed, mdep: ModelDeployment) -> Note | None:
    for variant in mdep.spec.variants:
        for product in sorted(variant.gpu.products):
            if _capability(seen, product) is None:
                there = ", ".join(sorted({node.product for node in seen.nodes} - {""}))
                sentence = (
                    f'spec.variants[{variant.name}].gpu.products: "{product}" is unknown; '
                    f"nodes here have {there or 'no GPUs with the label nvidia.com/gpu.product'}"
                )
                return Note(Reason.UNKNOWN_GPU_CLASS, sentence)
    return None


def precision_fits_gpu(seen: Observed, mdep: ModelDeployment) -> Note | None:
    for variant in mdep.spec.variants:
        for field, word, capability in _classes(seen, variant):
            if not runs(variant.quantization, capability):
                has = f" (compute capability {capability[0]}.{capability[1]})"
                sentence = (
                    f'spec.variants[{variant.name}].quantization: "{variant.quantization}" does '
                    f'not run on gpu.{field} "{word}"{has if field == "products" else ""}; '
                    f"it needs {PRECISIONS[variant.quantization].words}"
                )
                return Note(Reason.PRECISION_UNSUPPORTED, sentence)
    return None


def source_suits_runtime(seen: Observed, mdep: ModelDeployment) -> Note | None:
    if mdep.spec.runtime.type != "triton-python":
        return None
    for variant in mdep.spec.variants:
        if variant.source.uri.startswith("hf://"):
            sentence = (
                f'spec.variants[{variant.name}].source.uri: "{variant.source.uri}" is a '
                "checkpoint; triton-python needs a model repository: pvc://claim/path or "
                "file:///path"
            )
            return Note(Reason.SOURCE_INVALID, sentence)
    return None


def template_renders(seen: Observed, mdep: ModelDeployment) -> Note | None:
    template = mdep.spec.model.chat_template
    if template is None or template.inline is None:
        return None
    kept = seen.kept
    if kept is not None and kept.chat_template == template.inline:
        return None  # it was checked when it came into force
    if fault := check_template(template.inline):
        return Note(Reason.TEMPLATE_INVALID, f"spec.model.chatTemplate.inline: {fault}")
    return None


ACCEPTANCE: Final[tuple[Callable[[Observed, ModelDeployment], Note | None], ...]] = (
    name_is_free,  # One public name leads to one ModelDeployment of the namespace
    products_are_known,  # Else a misspelt product would wait for a node for ever
    precision_fits_gpu,  # fp8 needs Ada or newer, nvfp4 Blackwell, int4-awq something older
    source_suits_runtime,  # triton-python serves a repository, not a checkpoint
    template_renders,  # A template that fails would fail every request
)


def verdict(seen: Observed) -> ModelDeployment | Note:
    """Return the object, or the first thing that is wrong with it."""
    mdep = seen.mdep
    if isinstance(mdep, Invalid):
        return Note(Reason.SPEC_INVALID, str(mdep))
    return next(filter(None, (check(seen, mdep) for check in ACCEPTANCE)), mdep)


def _capability(seen: Observed, product: str) -> Capability | None:
    """Ask the nodes that carry the product first: they know it better than our table."""
    carried = (node.capability for node in seen.nodes if node.product == product)
    return next(filter(None, carried), None) or capability_of(product)


def _classes(seen: Observed, variant: Variant) -> Iterator[tuple[str, str, Capability]]:
    for text in sorted(variant.gpu.compute_capabilities):
        yield "computeCapabilities", text, parse_capability(text)
    for product in sorted(variant.gpu.products):
        if capability := _capability(seen, product):
            yield "products", product, capability
