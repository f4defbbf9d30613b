"""Model servers: what the three runtimes read, and how their command lines differ.

Two are Triton with the same ports. `triton-llmapi` has its model in the image and reads a
`model.yaml`; `triton-python` serves a model repository whose model `ensemble` has the tensors of
TensorRT-LLM's ensemble, with a configuration of ours beside its own. `trtllm-serve` is
TensorRT-LLM's OpenAI server, with one port for everything.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import yaml

from headgate_api.labels import GRPC_PORT, HTTP_PORT, METRICS_PORT
from headgate_api.runtime import RuntimeType
from headgate_api.speculation import SpeculativeDecoding
from headgate_api.variants import Variant
from headgate_controllers.modeldeployment.sources import Location, locate, locate_draft

CONFIG_DIR: Final = "/etc/headgate"
ALIVE: Final = files("headgate_controllers.modeldeployment").joinpath("files/alive.py").read_text()
"""The liveness probe's program: every pod gets a copy."""
ENSEMBLE: Final = (
    files("headgate_controllers.modeldeployment").joinpath("files/ensemble.pbtxt").read_text()
)
CONFIG_NAME: Final = "headgate"
DECODING: Final = {
    # By this name every release knows EAGLE-3; newer ones call it Eagle3, too.
    "eagle3": "Eagle",
    "mtp": "MTP",
    "ngram": "NGram",
    "draft-target": "DraftTarget",
}
"""`speculative_config.decoding_type` of TensorRT-LLM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One way to serve a model."""

    command: str
    served_model: str
    """The server's own name of the model, the same for every source: clients are told it before
    anybody knows which pod answers. trtllm-serve takes any name and says it back."""
    arguments: Callable[[Location, int], tuple[str, ...]]
    """From the source, and the seconds that open streams may go on at the end."""
    files: Callable[[Variant], dict[str, str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    config_mount: Callable[[Location], tuple[str, str] | None] = lambda _: None
    """A single file of ours that must lie elsewhere: its directory there, and its name."""
    ports: Mapping[str, int]
    probed: tuple[int, ...]
    """Ports that the operator comes to."""
    started: str
    """Path that answers with 200 once the server runs."""
    ready: str
    """Path that answers with 200 while the model takes requests."""


def _triton(
    repository: Callable[[Location], str], model: str, *more: str
) -> Callable[[Location, int], tuple[str, ...]]:
    """Tell Triton's command line: one model, loaded at the start."""

    def arguments(location: Location, drain: int) -> tuple[str, ...]:
        return (
            f"--model-repository={repository(location)}",
            "--model-control-mode=explicit",
            f"--load-model={model}",
            f"--exit-timeout-secs={drain}",
            "--metrics-config=summary_latencies=true",
            *more,
        )

    return arguments


def _trtllm_serve(location: Location, _drain: int) -> tuple[str, ...]:
    """Tell trtllm-serve's command line.

    Everything else lies in the options file, which wins. It is named in the spelling that all
    releases know; the newer --config is the same.
    """
    return (
        location.path,
        "--host=0.0.0.0",
        f"--port={HTTP_PORT}",
        "--backend=pytorch",
        f"--extra_llm_api_options={CONFIG_DIR}/llm.yaml",
    )


def model_yaml(variant: Variant) -> dict[str, str]:
    """Write the arguments of TensorRT-LLM's LLM() for Triton; `engine.config` has the last word."""
    config = {
        "model": locate(variant.source.uri).path,
        **_llm(variant),
        # Without decoupled nothing streams; a max_batch_size above 0 would batch in Triton, too.
        "triton_config": {"max_batch_size": 0, "decoupled": True},
    }
    return {"model.yaml": _yaml(_merged(config, variant.engine.config))}


def llm_yaml(variant: Variant) -> dict[str, str]:
    """Write the arguments of TensorRT-LLM's LLM() for trtllm-serve, likewise."""
    # Without both there are no metrics for Prometheus, or none of the queue.
    metrics = {"return_perf_metrics": True, "enable_iter_perf_stats": True}
    return {"llm.yaml": _yaml(_merged(_llm(variant) | metrics, variant.engine.config))}


def _llm(variant: Variant) -> dict[str, Any]:
    location, engine = locate(variant.source.uri), variant.engine
    tensor, pipeline = (
        (variant.parallelism.tensor, variant.parallelism.pipeline)
        if variant.parallelism
        else (variant.gpu.count, 1)
    )
    config: dict[str, Any] = {"tensor_parallel_size": tensor, "pipeline_parallel_size": pipeline}
    if location.revision is not None:
        config["revision"] = location.revision
    if engine.max_batch_size is not None:
        config["max_batch_size"] = engine.max_batch_size
    if engine.kv_cache_percent is not None:
        fraction = engine.kv_cache_percent / 100
        config["kv_cache_config"] = {"free_gpu_memory_fraction": fraction}
    if variant.speculative is not None:
        config["speculative_config"] = _speculation(variant.speculative, locate_draft(variant))
    return config


def _speculation(said: SpeculativeDecoding, draft: Location | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "decoding_type": DECODING[said.type],
        "max_draft_len": said.max_draft_tokens,
    }
    if draft is not None:
        # The spelling that all releases know; the newer speculative_model is the same.
        config["speculative_model_dir"] = draft.path
    if said.type == "mtp":
        # Older releases read this instead of max_draft_len.
        config["num_nextn_predict_layers"] = said.max_draft_tokens
    return config


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


_TRITON_PORTS: Final = {"http": HTTP_PORT, "grpc": GRPC_PORT, "metrics": METRICS_PORT}

SERVERS: Final[Mapping[RuntimeType, Server]] = {
    "triton-llmapi": Server(
        command="tritonserver",
        served_model="tensorrt_llm",
        arguments=_triton(lambda _: "/app/all_models/llmapi", "tensorrt_llm"),
        files=model_yaml,
        environment={"LLM_CONFIG_PATH": f"{CONFIG_DIR}/model.yaml"},
        ports=_TRITON_PORTS,
        probed=(GRPC_PORT, METRICS_PORT),
        started="/v2/health/live",
        ready="/v2/models/tensorrt_llm/ready",
    ),
    "trtllm-serve": Server(
        command="trtllm-serve",
        served_model="llm",
        arguments=_trtllm_serve,
        files=llm_yaml,
        ports={"http": HTTP_PORT},
        probed=(HTTP_PORT,),
        started="/health",
        ready="/health",
    ),
    "triton-python": Server(
        command="tritonserver",
        served_model="ensemble",
        arguments=_triton(
            lambda location: location.path, "ensemble", f"--model-config-name={CONFIG_NAME}"
        ),
        files=model_config,
        config_mount=lambda location: (f"{location.path}/ensemble/configs", f"{CONFIG_NAME}.pbtxt"),
        ports=_TRITON_PORTS,
        probed=(GRPC_PORT, METRICS_PORT),
        started="/v2/health/live",
        ready="/v2/models/ensemble/ready",
    ),
}


def _yaml(options: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(options), sort_keys=True, allow_unicode=True)


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
