"""GPU classes: which precision runs on which, and which nodes have them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from headgate_api.variants import Variant
from headgate_controllers.contract import Manifest

RESOURCE: Final = "nvidia.com/gpu"
PRODUCT: Final = "nvidia.com/gpu.product"
MAJOR: Final = "nvidia.com/gpu.compute.major"
MINOR: Final = "nvidia.com/gpu.compute.minor"

Capability: TypeAlias = tuple[int, int]


class Precision(NamedTuple):
    """What computes in a precision: capabilities from `least` on, but below `below`."""

    least: Capability
    below: Capability
    words: str


PRECISIONS: Final[Mapping[str, Precision]] = {
    "none": Precision((7, 0), (99, 0), "7.0 (Volta) or newer"),
    "int8": Precision((8, 0), (99, 0), "8.0 (Ampere) or newer"),
    "fp8": Precision((8, 9), (99, 0), "8.9 (Ada) or newer"),
    "nvfp4": Precision((10, 0), (99, 0), "10.0 (Blackwell) or newer"),
    "int4-awq": Precision((8, 0), (10, 0), "8.0 (Ampere) to 9.0 (Hopper)"),
    "w4a8-awq": Precision((8, 9), (10, 0), "8.9 (Ada) to 9.0 (Hopper)"),
}
"""Source: TensorRT-LLM, docs/source/features/quantization.md, its table for the PyTorch backend."""

# A word of the node label nvidia.com/gpu.product, such as "A100" in NVIDIA-A100-SXM4-80GB.
PRODUCTS: Final[Mapping[str, Capability]] = {
    "V100": (7, 0),
    "T4": (7, 5), "T4G": (7, 5),
    "A100": (8, 0), "A800": (8, 0), "A30": (8, 0),
    "A2": (8, 6), "A10": (8, 6), "A10G": (8, 6), "A16": (8, 6), "A40": (8, 6),
    "A4000": (8, 6), "A5000": (8, 6), "A6000": (8, 6), "3090": (8, 6),
    "L4": (8, 9), "L20": (8, 9), "L40": (8, 9), "L40S": (8, 9), "Ada": (8, 9), "4090": (8, 9),
    "H20": (9, 0), "H100": (9, 0), "H200": (9, 0), "H800": (9, 0), "GH200": (9, 0),
    "B100": (10, 0), "B200": (10, 0), "GB200": (10, 0),
    "B300": (10, 3), "GB300": (10, 3),
    "Blackwell": (12, 0), "5090": (12, 0),
    "GB10": (12, 1),
}  # fmt: skip


def runs(quantization: str, capability: Capability) -> bool:
    precision = PRECISIONS[quantization]
    return precision.least <= capability < precision.below


def capability_of(product: str) -> Capability | None:
    """Tell a product's compute capability. None: this release does not know it.

    >>> capability_of("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"), capability_of("NVIDIA-Z1")
    ((9, 0), None)
    """
    return next((PRODUCTS[word] for word in product.split("-") if word in PRODUCTS), None)


def parse_capability(text: str) -> Capability:
    major, minor = text.split(".")
    return int(major), int(minor)


@dataclass(frozen=True, slots=True)
class Node:
    """What decisions may know of a node with GPUs."""

    labels: Mapping[str, str]
    gpus: int

    @property
    def product(self) -> str:
        return self.labels.get(PRODUCT, "")

    @property
    def capability(self) -> Capability | None:
        """As the node's labels have it; without them, as the product's name tells."""
        major, minor = self.labels.get(MAJOR, ""), self.labels.get(MINOR, "")
        if major.isdecimal() and minor.isdecimal():
            return int(major), int(minor)
        return capability_of(self.product)


def nodes_of(manifests: Iterable[Manifest]) -> tuple[Node, ...]:
    """Pick the nodes that have GPUs."""
    nodes = (
        Node(
            manifest["metadata"].get("labels", {}),
            int(manifest.get("status", {}).get("allocatable", {}).get(RESOURCE, 0)),
        )
        for manifest in manifests
    )
    return tuple(node for node in nodes if node.gpus)


def suits(variant: Variant, selector: Mapping[str, str], node: Node) -> bool:
    """Tell whether one replica of `variant` could run on `node`, were it empty."""
    return (
        node.gpus >= variant.gpu.count
        and all(node.labels.get(name) == value for name, value in selector.items())
        and any(_holds(term, node) for term in terms(variant) or [[]])
    )


def terms(variant: Variant) -> list[list[dict[str, Any]]]:
    """Say as node selector terms which GPUs will do: one of the terms must hold, all of its parts.

    Nothing for a variant that runs on any GPU, so that nodes without labels will do as well.
    """
    gpu, quantization = variant.gpu, variant.quantization
    capabilities = [
        [_in(MAJOR, str(major)), _in(MINOR, str(minor))]
        for major, minor in sorted(map(parse_capability, gpu.compute_capabilities))
    ]
    if gpu.products:
        products = [_in(PRODUCT, *sorted(gpu.products))]
        return [products + term for term in capabilities or [[]]]
    if capabilities or quantization == "none":
        return capabilities
    return _range(PRECISIONS[quantization])


def class_of(variant: Variant) -> str:
    """Name what one replica needs, for people.

    >>> class_of(Variant(name="a", source={"uri": "file:///m"}, gpu={"products": ["NVIDIA-L4"]}))
    '1 x NVIDIA-L4'
    >>> class_of(Variant(name="a", source={"uri": "file:///m"}, quantization="fp8"))
    '1 x a GPU of compute capability 8.9 (Ada) or newer'
    """
    gpu = variant.gpu
    words = " or ".join([*sorted(gpu.products), *sorted(gpu.compute_capabilities)])
    if not words and variant.quantization != "none":
        words = f"a GPU of compute capability {PRECISIONS[variant.quantization].words}"
    return f"{gpu.count} x {words or 'any GPU'}"


def there_are(nodes: Iterable[Node]) -> str:
    """Name what nodes have, for people.

    >>> there_are([Node({PRODUCT: "NVIDIA-L4"}, 8), Node({PRODUCT: "NVIDIA-L4"}, 1), Node({}, 0)])
    'there are nodes with 1 or 8 x NVIDIA-L4'
    >>> there_are([Node({}, 0)])
    'there are no nodes with GPUs'
    """
    counts: dict[str, set[int]] = {}
    for node in nodes:
        if node.gpus:
            counts.setdefault(node.product or "an unlabelled GPU", set()).add(node.gpus)
    said = [f"{' or '.join(map(str, sorted(counts[p])))} x {p}" for p in sorted(counts)]
    return f"there are nodes with {', '.join(said)}" if said else "there are no nodes with GPUs"


def _range(precision: Precision) -> list[list[dict[str, Any]]]:
    """Labels are compared part by part: 8.9 or newer is 9 and more, or 8 with at least .9."""
    (major, minor), (end, _) = precision.least, precision.below
    newer = [_compare(MAJOR, "Gt", major)]
    same = [_in(MAJOR, str(major))]
    if minor:
        same.append(_compare(MINOR, "Gt", minor - 1))
    if end < 99:
        newer.append(_compare(MAJOR, "Lt", end))
    return [same, newer]


def _in(label: str, *values: str) -> dict[str, Any]:
    return {"key": label, "operator": "In", "values": list(values)}


def _compare(label: str, operator: str, value: int) -> dict[str, Any]:
    return {"key": label, "operator": operator, "values": [str(value)]}


def _holds(term: Iterable[Mapping[str, Any]], node: Node) -> bool:
    return all(_part_holds(part, node) for part in term)


def _part_holds(part: Mapping[str, Any], node: Node) -> bool:
    """As the scheduler decides it: a missing label fulfils nothing."""
    value = node.labels.get(part["key"], "")
    if part["operator"] == "In":
        return value in part["values"]
    if not value.isdecimal():
        return False
    bound = int(part["values"][0])
    return int(value) > bound if part["operator"] == "Gt" else int(value) < bound
