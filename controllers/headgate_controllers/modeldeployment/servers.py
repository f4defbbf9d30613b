"""Model servers: what the two runtimes read, and how their command lines differ.

Both are Triton with the same ports. `triton-llmapi` has its model in the image and reads a
`model.yaml`; `triton-python` serves a model repository whose model `ensemble` has the tensors of
TensorRT-LLM's ensemble, with a configuration of ours beside its own.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import yaml

from headgate_api.modeldeployment import Variant

CONFIG_DIR: Final = "/etc/headgate"
MODELS_DIR: Final = "/models"
"""Where the claim of a pvc:// source is mounted."""
ALIVE: Final = files("headgate_controllers.modeldeployment").joinpath("files/alive.py").read_text()
"""The liveness probe's program: every pod gets a copy."""
ENSEMBLE: Final = (
    files("headgate_controllers.modeldeployment").joinpath("files/ensemble.pbtxt").read_text()
)
CONFIG_NAME: Final = "headgate"

Runtime: TypeAlias = Literal["triton-llmapi", "triton-python"]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a source lies, as the pod sees it."""

    path: str
    """A path in the pod; for hf:// the repository on Hugging Face."""
    revision: str | None = None
    claim: str | None = None


def locate(uri: str) -> Location:
    """Read a source's URI.

    >>> locate("hf://org/name@main"), locate("pvc://weights/llama/8b").path
    (Location(path='org/name', revision='main', claim=None), '/models/llama/8b')
    """
    url = urlsplit(uri)
    match url.scheme:
        case "hf":
            path, _, revision = uri.removeprefix("hf://").rpartition("@")
            return Location(path, revision=revision)
        case "pvc":
            return Location(MODELS_DIR + url.path, claim=url.netloc)
        case _:
            return Location(url.path)


@dataclass(frozen=True, slots=True)
class Server:
    """One way to run Triton."""

    served_model: str
    repository: Callable[[Location], str]
    files: Callable[[Variant], dict[str, str]]
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    config_mount: Callable[[Location], tuple[str, str] | None] = lambda _: None
    """A single file of ours that must lie elsewhere: its directory there, and its name."""


def model_yaml(variant: Variant) -> dict[str, str]:
    """Write the arguments of TensorRT-LLM's LLM(); `engine.config` has the last word."""
    location, engine = locate(variant.source.uri), variant.engine
    tensor, pipeline = (
        (variant.parallelism.tensor, variant.parallelism.pipeline)
        if variant.parallelism
        else (variant.gpu.count, 1)
    )
    config: dict[str, Any] = {
        "model": location.path,
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": pipeline,
        # Without decoupled nothing streams; a max_batch_size above 0 would batch in Triton, too.
        "triton_config": {"max_batch_size": 0, "decoupled": True},
    }
    if location.revision is not None:
        config["revision"] = location.revision
    if engine.max_batch_size is not None:
        config["max_batch_size"] = engine.max_batch_size
    if engine.kv_cache_percent is not None:
        fraction = engine.kv_cache_percent / 100
        config["kv_cache_config"] = {"free_gpu_memory_fraction": fraction}
    merged = _merged(config, engine.config)
    return {"model.yaml": yaml.safe_dump(merged, sort_keys=True, allow_unicode=True)}


def model_config(variant: Variant) -> dict[str, str]:
    """Write the ensemble's configuration, with `engine` as its parameters."""
    parameters: dict[str, Any] = dict(variant.engine.config)
    if variant.engine.max_batch_size is not None:
        parameters.setdefault("max_batch_size", variant.engine.max_batch_size)
    if variant.engine.kv_cache_percent is not None:
        fraction = variant.engine.kv_cache_percent / 100
        parameters.setdefault("kv_cache_free_gpu_mem_fraction", fraction)
    text = "".join(_parameter(name, value) for name, value in sorted(parameters.items()))
    return {f"{CONFIG_NAME}.pbtxt": ENSEMBLE + text}


SERVERS: Final[Mapping[Runtime, Server]] = {
    "triton-llmapi": Server(
        served_model="tensorrt_llm",
        repository=lambda _: "/app/all_models/llmapi",
        files=model_yaml,
        environment={"LLM_CONFIG_PATH": f"{CONFIG_DIR}/model.yaml"},
    ),
    "triton-python": Server(
        served_model="ensemble",
        repository=lambda location: location.path,
        files=model_config,
        arguments=(f"--model-config-name={CONFIG_NAME}",),
        config_mount=lambda location: (f"{location.path}/ensemble/configs", f"{CONFIG_NAME}.pbtxt"),
    ),
}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`, objects key by key."""
    both = dict(base)
    for name, value in over.items():
        before = both.get(name)
        deeper = isinstance(before, Mapping) and isinstance(value, Mapping)
        both[name] = _merged(before, value) if deeper and before is not None else value
    return both


def _parameter(name: str, value: Any) -> str:
    # JSON strings are strings of the text format of protocol buffers, too.
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    key, said = json.dumps(name), json.dumps(text, ensure_ascii=False)
    return f"parameters {{ key: {key} value: {{ string_value: {said} }} }}\n"
