"""What runs in the pods of a model, and how they fit into the cluster."""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from headgate_api.base import ApiModel, Rule, keyed, ordered
from headgate_api.types import (
    Annotations,
    Duration,
    Image,
    KeyRef,
    Labels,
    LabelValue,
    ObjectName,
    Quantities,
    Quantity,
    Ref,
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
