"""Variants: the ways to serve a model, each with its GPUs."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from headgate_api.base import ApiModel, Rule, distinct, ordered
from headgate_api.runtime import Argument
from headgate_api.speculation import SpeculativeDecoding
from headgate_api.types import Image, LabelValue, Source, VariantName

Replicas = Annotated[int, Field(ge=0, le=1000)]
_CAPABILITY: Final = "^[0-9]{1,2}[.][0-9]$"
Capability = Annotated[
    str,
    Field(max_length=5),
    Rule(
        f"self.matches('{_CAPABILITY}')",
        'write major.minor in quotes, such as "9.0"; this is "{self}"',
    ),
]


def _unfit(precisions: str, gpus: str, sentence: str) -> Rule:
    """A variant's precision must not meet the compute capabilities that lack it."""
    return Rule(
        f"!(self.quantization in {precisions}) || !has(self.gpu.computeCapabilities) || "
        f"!self.gpu.computeCapabilities.exists(c, c.matches('{_CAPABILITY}') && double(c) {gpus})",
        f"{sentence}; this is {{self.gpu.computeCapabilities.filter(c, double(c) {gpus})[0]}}",
        ".gpu.computeCapabilities",
    )


class Gpu(ApiModel):
    """The GPUs of one replica. Without products and computeCapabilities any GPU will do."""

    count: Annotated[int, Field(ge=1, le=16)] = 1
    """How many GPUs one replica takes."""
    products: Annotated[tuple[LabelValue, ...], distinct(0, 16)] = ()
    """Values of the node label nvidia.com/gpu.product that may run this variant."""
    compute_capabilities: Annotated[tuple[Capability, ...], distinct(0, 16)] = ()
    """Compute capabilities that may run this variant, such as "9.0" for Hopper."""


class Parallelism(ApiModel):
    """How the model is split over the GPUs of one replica."""

    tensor: Annotated[int, Field(ge=1, le=16)]
    """Tensor parallelism: GPUs that share each layer."""
    pipeline: Annotated[int, Field(ge=1, le=16)] = 1
    """Pipeline parallelism: groups of layers, one after the other."""


class Engine(ApiModel):
    """How the model server batches and caches."""

    max_batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Requests that are computed at the same time."""
    kv_cache_percent: Annotated[int, Field(ge=10, le=95)] | None = None
    """Share of the GPU memory left by the weights that the KV cache takes."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Verbatim into model.yaml (triton-llmapi), the extra options of trtllm-serve or the parameters
    of the model (triton-python). It wins over what Headgate writes there."""


class Variant(ApiModel):
    """One way to serve the model: a checkpoint in a precision on a class of GPUs."""

    validations = (
        _unfit(
            "['fp8', 'w4a8-awq']",
            "< 8.9",
            "{self.quantization} needs compute capability 8.9 (Ada) or newer",
        ),
        _unfit("['nvfp4']", "< 10.0", "nvfp4 needs compute capability 10.0 (Blackwell) or newer"),
        _unfit(
            "['int4-awq', 'w4a8-awq']",
            ">= 10.0",
            "{self.quantization} does not run on Blackwell (10.0 and newer); use nvfp4 there",
        ),
        Rule(
            "!has(self.parallelism) || "
            "self.parallelism.tensor * self.parallelism.pipeline == self.gpu.count",
            "tensor x pipeline must be gpu.count",
            ".parallelism",
        ),
        Rule(
            "!has(self.replicas) || (!has(self.minReplicas) && !has(self.maxReplicas))",
            "replicas pins this variant; "
            "remove its minReplicas and maxReplicas, or remove replicas",
            ".replicas",
        ),
        Rule(
            "!has(self.minReplicas) || !has(self.maxReplicas) || "
            "self.minReplicas <= self.maxReplicas",
            "minReplicas must not be above maxReplicas",
            ".minReplicas",
        ),
    )

    name: VariantName
    """Name of the variant, part of its pods' names."""
    quantization: Literal["none", "fp8", "nvfp4", "int4-awq", "w4a8-awq", "int8"] = "none"
    """Precision of the weights. It must fit the GPUs: fp8 needs Ada or newer, nvfp4 Blackwell, and
    int4-awq does not run on Blackwell."""
    source: Source
    """Where the weights come from. A change replaces the pods one by one."""
    image: Image | None = None
    """Image for this variant alone. Absent: runtime.image."""
    args: Annotated[tuple[Argument, ...], ordered(0, 64)] = ()
    """More arguments for the model server, after those of runtime.args."""
    replicas: Replicas | None = None
    """Pins the variant to so many replicas, outside the pool that spec.replicas sizes."""
    min_replicas: Replicas | None = None
    """Least part of the pool that this variant gets."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Largest part of the pool that this variant gets."""
    gpu: Gpu = Gpu()
    """The GPUs of one replica."""
    parallelism: Parallelism | None = None
    """How the model is split. Absent: tensor parallelism over all GPUs of the replica."""
    engine: Engine = Field(default_factory=Engine)
    """Batching and cache. Absent: the model server's own defaults."""
    speculative: SpeculativeDecoding | None = None
    """Guessing ahead. It does not change what is answered: write the variant after its plain twin.
    Absent: the variant does not guess."""
