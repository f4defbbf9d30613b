"""ModelDeployment (`mdep`): a model as ranked variants, and how its pods run."""

from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import Field

from headgate_api.base import (
    AGE,
    MESSAGE,
    READY,
    REASON,
    ApiModel,
    Column,
    Resource,
    Rule,
    Status,
    distinct,
    keyed,
    ordered,
)
from headgate_api.speculation import SpeculativeDecoding
from headgate_api.types import (
    Annotations,
    Duration,
    Image,
    KeyRef,
    Label,
    Labels,
    LabelValue,
    ObjectName,
    PublicName,
    Quantities,
    Quantity,
    Ref,
    Source,
    VariantName,
    between,
)

_RESERVED: Final = [
    *("--host", "--port", "--tp_size", "--tensor_parallel_size", "--pp_size"),
    *("--pipeline_parallel_size", "--revision", "--config", "--extra_llm_api_options"),
]
_OURS: Final = (
    "ports, model control, parallelism and exit timeout are set by the operator; "
    "remove {self} from args"
)
Argument = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Rule(
        # tritonserver takes the beginning of an option for the option.
        "!self.matches('^--(model-(repo|store|control|config)|load-model|"
        "(http|grpc|metrics)-port|exit-timeout)')",
        _OURS,
    ),
    Rule(f"!(self.split('=', 2)[0] in {_RESERVED})", _OURS),
]
RuntimeType: TypeAlias = Literal["triton-llmapi", "trtllm-serve", "triton-python"]
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


class ChatTemplate(ApiModel):
    """A Jinja template that turns messages into a prompt."""

    validations = (
        Rule(
            "has(self.inline) != has(self.configMapKeyRef)",
            "give exactly one of inline, configMapKeyRef",
        ),
    )

    inline: Annotated[str, Field(max_length=65536)] | None = None
    """The template itself."""
    config_map_key_ref: KeyRef | None = None
    """The entry of a ConfigMap that holds the template."""


class Tokenizer(ApiModel):
    """The model's own tokenizer.json, with which gateways count what a request brings."""

    validations = (
        Rule(
            "self.uri.matches('^(https://[^/]+/|file:///[^/]).+')",
            "start with https:// or file:///; this is {self.uri}",
            ".uri",
        ),
        Rule(
            "!self.uri.matches('/[.][.](/|$)')",
            "write the path without ..; this is {self.uri}",
            ".uri",
        ),
        Rule(
            "self.digest.matches('^sha256:[0-9a-f]{64}$')",
            "write sha256:<64 hex digits>; this is {self.digest}",
            ".digest",
        ),
    )

    uri: Annotated[str, Field(max_length=1024)]
    """`https://host/path`, of a host that the installation allows, or `file:///path` of the
    gateways."""
    digest: Annotated[str, Field(max_length=71)]
    """`sha256:<64 hex digits>` of its content: nothing else is taken for it."""


class Model(ApiModel):
    """What clients see."""

    validations = (
        Rule(
            "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)",
            "cannot change: clients and the ledger know it; claim a new name in a RoutingPolicy",
            ".name",
        ),
    )

    name: PublicName | None = None
    """What clients write into `model`. Absent: metadata.name. It cannot change."""
    chat_template: ChatTemplate | None = None
    """How messages become a prompt. Absent: ChatML; a template of the checkpoint is not read."""
    max_context_tokens: Annotated[int, Field(ge=256, le=16777216)] | None = None
    """Size of the model's context, in tokens, of prompt and answer together. Absent: the model
    server decides."""
    tokenizer: Tokenizer | None = None
    """How gateways count a prompt. Absent: they estimate."""


class EnvVar(ApiModel):
    """An environment variable of the model server."""

    validations = (
        Rule(
            "has(self.value) != has(self.secretKeyRef)",
            "{self.name}: give exactly one of value, secretKeyRef",
        ),
        Rule(
            "!self.name.startsWith('HEADGATE_') && self.name != 'LLM_CONFIG_PATH'",
            "{self.name} is set by the operator; remove it",
            ".name",
        ),
    )

    name: Annotated[
        str,
        Field(min_length=1, max_length=128),
        Rule(
            "self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",
            '"{self}" is no name of a variable: use letters, digits and _, first no digit',
        ),
    ]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value, for everybody to read."""
    secret_key_ref: KeyRef | None = None
    """The entry of a Secret that holds its value, such as a token for Hugging Face."""


class Runtime(ApiModel):
    """What runs in the pods."""

    type: RuntimeType = "triton-llmapi"
    """`triton-llmapi`: TensorRT-LLM's LLM API in Triton, for checkpoints. `trtllm-serve`:
    TensorRT-LLM's own OpenAI server, for checkpoints too, with tools, guided decoding and token
    counts. `triton-python`: a Triton model repository whose model `ensemble` takes the TensorRT-LLM
    ensemble's tensors."""
    image: Image | None = None
    """Image with Triton, or with trtllm-serve. Absent: the one that the chart names for the type. A
    change replaces the pods one by one."""
    args: Annotated[tuple[Argument, ...], ordered(0, 64)] = ()
    """More arguments for tritonserver or trtllm-serve."""
    env: Annotated[tuple[EnvVar, ...], keyed("name", 0, 64)] = ()
    """More environment variables."""
    shm_size: Quantity = "1Gi"
    """Size of /dev/shm, counted as the pod's memory. Give tensor parallelism 16Gi or more."""
    load_timeout: Annotated[Duration, *between("10s", "6h")] = Duration("30m")
    """How long a pod may take to fetch and load the model before it is restarted."""
    drain_timeout: Annotated[Duration, *between("1s", "2h")] = Duration("5m")
    """How long open streams may go on in a pod that stops."""


class Toleration(ApiModel):
    """A taint that the pods tolerate, as in a Pod. The key nvidia.com/gpu always is."""

    validations = (
        Rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value)",
            "operator Exists takes no value; remove {self.value}",
            ".value",
        ),
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "give a key, or operator: Exists to tolerate every taint",
            ".key",
        ),
    )

    key: Annotated[str, Field(max_length=316)] | None = None
    """Key of the taint. Absent, with operator Exists: every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """How value is compared. Absent: Equal."""
    value: LabelValue | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Absent: every effect."""


class Resources(ApiModel):
    """CPU and memory of one pod."""

    validations = (
        Rule(
            "(!has(self.requests) || !self.requests.exists(r, r.startsWith('nvidia.com/'))) && "
            "(!has(self.limits) || !self.limits.exists(r, r.startsWith('nvidia.com/')))",
            "GPUs are counted by variants[].gpu.count; remove nvidia.com/gpu here",
        ),
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(r, "
            "!(r in self.limits) || !isQuantity(string(self.requests[r])) || "
            "!isQuantity(string(self.limits[r])) || !quantity(string(self.limits[r]))"
            ".isLessThan(quantity(string(self.requests[r]))))",
            "a request is above its limit",
            ".requests",
        ),
    )

    requests: Quantities = Field(default_factory=dict)
    """What the node must have free."""
    limits: Quantities = Field(default_factory=dict)
    """What the pod may not exceed."""


class Pod(ApiModel):
    """How the pods fit into the cluster."""

    node_selector: Labels = Field(default_factory=dict)
    """Labels that a node must have, besides the GPU's."""
    annotations: Annotations = Field(default_factory=dict)
    """Annotations of the pods."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods. Its token is not mounted."""
    runtime_class_name: ObjectName | None = None
    """RuntimeClass of the pods."""
    image_pull_secrets: Annotated[tuple[Ref, ...], keyed("name", 0, 8)] = ()
    """Secrets with the credentials of registries."""
    tolerations: Annotated[tuple[Toleration, ...], ordered(0, 16)] = ()
    """Taints that the pods tolerate."""
    resources: Resources = Field(default_factory=Resources)
    """CPU and memory."""


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


class Rollout(ApiModel):
    """How a change reaches the pods."""

    progress_deadline: Annotated[Duration, *between("1m", "168h")] = Duration("1h")
    """After so long without a new ready pod a change is reported as stuck. It is not undone."""


class Region(ApiModel):
    """A region where the model runs."""

    name: Label
    """The region's name, as its chart has it in region.name."""


class Placement(ApiModel):
    """Where the model runs."""

    regions: Annotated[tuple[Region, ...], keyed("name", 1, 32)]
    """The regions that run it; the others keep the object without pods."""


class ModelDeploymentSpec(ApiModel):
    """What shall run."""

    validations = (
        Rule(
            "self.variants.all(v, v.quantization != 'int8') || "
            "self.runtime.type == 'triton-python'",
            "int8 runs only on runtime.type triton-python; "
            "with {self.runtime.type} use fp8 or int4-awq",
            ".variants",
        ),
        Rule(
            "self.runtime.type != 'triton-python' || "
            "self.variants.all(v, !v.source.uri.startsWith('hf://'))",
            "runtime.type triton-python serves a Triton model repository: "
            "start source.uri with pvc:// or file://",
            ".variants",
        ),
        Rule(
            "self.runtime.type != 'triton-python' || self.variants.all(v, !has(v.speculative))",
            "runtime.type triton-python has no speculative decoding of its own: remove "
            "variants[].speculative, or use triton-llmapi or trtllm-serve",
            ".variants",
        ),
    )

    suspend: bool = False
    """No pods. The model's names stay claimed, and clients get 503."""
    replicas: Replicas = 1
    """Size of the pool that the variants without own replicas share. Leave it out of manifests in
    Git and use `kubectl scale`, or every sync resets it."""
    model: Model = Model()
    """What clients see."""
    runtime: Runtime = Runtime()
    """What runs in the pods."""
    pod: Pod = Field(default_factory=Pod)
    """How the pods fit into the cluster."""
    variants: Annotated[tuple[Variant, ...], keyed("name", 1, 16)]
    """Ways to serve the model, best quality first."""
    rollout: Rollout = Rollout()
    """How a change reaches the pods."""
    placement: Placement | None = None
    """Where the model runs. Absent: in every region that has the object."""


class VariantStatus(ApiModel):
    """What one variant does."""

    name: VariantName
    """Name of the variant."""
    rank: int | None = None
    """Place in spec.variants; 1 is the best quality."""
    revision: Annotated[str, Field(max_length=63)] | None = None
    """Revision that is wanted."""
    replicas: int | None = None
    """Pods of all its revisions."""
    ready_replicas: int | None = None
    """Pods that answered a probe."""
    nodes_suited: int | None = None
    """Nodes with a GPU that this variant may use."""
    reason: Annotated[str, Field(max_length=64)] | None = None
    """Why it is not complete, in one word."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """Why it is not complete, in a sentence."""


class ModelDeploymentStatus(Status):
    """What runs."""

    selector: Annotated[str, Field(max_length=512)] | None = None
    """Label selector of the pool's pods, for autoscalers."""
    replicas: int | None = None
    """Pods of the pool."""
    ready_replicas: int | None = None
    """Pods that answered a probe."""
    model_name: Annotated[str, Field(max_length=128)] | None = None
    """What clients write into `model`."""
    url: Annotated[str, Field(max_length=512)] | None = None
    """Base URL for OpenAI clients in this cluster."""
    stable_revision: Annotated[str, Field(max_length=63)] | None = None
    """Revision of the first variant that serves completely."""
    variants: Annotated[tuple[VariantStatus, ...], keyed("name", 0, 16)] = ()
    """What each variant does."""


class ModelDeployment(Resource):
    """A model, the ways to serve it, and how many pods do so."""

    kind = "ModelDeployment"
    plural = "modeldeployments"
    short_name = "mdep"
    scale = True
    columns: ClassVar[tuple[Column, ...]] = (
        READY,
        REASON,
        Column("Model", ".status.modelName"),
        Column("Replicas", ".status.replicas", "integer"),
        Column("Up", ".status.readyReplicas", "integer"),
        Column("Revision", ".status.stableRevision"),
        AGE,
        Column("Runtime", ".spec.runtime.type", wide=True),
        MESSAGE,
    )
    validations = (
        Rule(
            "size(self.metadata.name) <= 34",
            '"{self.metadata.name}" is too long: at most 34 characters, '
            "because Services and pods are named after it",
            ".metadata.name",
        ),
        Rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            '"{self.metadata.name}" is no name of a Service: '
            "start with a letter and use only a-z, 0-9 and '-'",
            ".metadata.name",
        ),
    )

    spec: ModelDeploymentSpec
    """What shall run."""
    status: ModelDeploymentStatus = Field(default_factory=ModelDeploymentStatus)
    """What runs, as last found by the operator."""
