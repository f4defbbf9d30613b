"""ModelDeployment (`mdep`): a model as ranked variants, and how its pods run."""

from typing import Annotated, ClassVar

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
    keyed,
)
from headgate_api.runtime import Pod, Runtime
from headgate_api.types import Duration, KeyRef, Label, PublicName, VariantName, between
from headgate_api.variants import Replicas, Variant


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
