"""The simulated LLM under the names of TensorRT-LLM's `llmapi/tensorrt_llm`.

As the real one it reads model.yaml, or what LLM_CONFIG_PATH names, and lets `triton_config` in it
decide whether the model can stream.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
import yaml

# The stub runs Python isolated: there is no PYTHONPATH to say this with.
sys.path.insert(0, str(Path(__file__).parents[3]))

from simulated_llm.answer import Ask
from simulated_llm.engine import Progress
from simulated_llm.served import ServedModel, Wire
from simulated_llm.tensors import required, scalar, strings, text

DEFAULT_MAX_TOKENS = 32  # of tensorrt_llm.SamplingParams


class LlmApiWire(Wire):
    """Streams the whole text so far, says why it ends, and has no token counts."""

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.streaming = scalar(request, "streaming", default=False)
        self._wants = frozenset(
            name
            for name in ("finish_reason", "stop_reason", "cumulative_logprob")
            if scalar(request, f"return_{name}", default=False)
        )
        self._perf = scalar(request, "sampling_param_return_perf_metrics", default=False)
        echo = not scalar(request, "sampling_param_exclude_input_from_output", default=False)
        self._prefix = self._prompt() if echo and not self.streaming else ""

    def ask(self) -> Ask:
        default = DEFAULT_MAX_TOKENS
        return Ask(
            prompt=self._prompt(),
            max_tokens=scalar(self.request, "sampling_param_max_tokens", default=default),
            seed=scalar(self.request, "sampling_param_seed", default=0),
            stops=strings(self.request, "sampling_param_stop"),
        )

    def outputs(self, progress: Progress, *, last: bool) -> list[Any]:
        answer = progress.answer
        out = [text("text_output", self._prefix + answer.upto(progress.sent))]
        # The real model writes these with str(), the word None included.
        if "finish_reason" in self._wants:
            out.append(text("finish_reason", answer.finish_reason if last else None))
        if "stop_reason" in self._wants:
            out.append(text("stop_reason", answer.stop_reason if last else None))
        if "cumulative_logprob" in self._wants:
            out.append(text("cumulative_logprob", -0.5 * progress.sent))
        if self._perf and last:
            out += _perf_metrics(progress)
        return out

    def _prompt(self) -> str:
        return str(required(self.request, "text_input"))


def _perf_metrics(progress: Progress) -> list[Any]:
    """Strings, whatever the configuration declares: so does the real model."""
    return [
        text("kv_cache_reused_block", 0),
        text("kv_cache_hit_rate", 0.0),
        text("kv_cache_alloc_new_blocks", progress.blocks),
        text("kv_cache_alloc_total_blocks", progress.blocks),
        text("kv_cache_missed_block", progress.blocks),
        text("arrival_time_ns", int(progress.arrived * 1e9)),
        text("first_scheduled_time_ns", int(progress.scheduled * 1e9)),
        text("first_token_time_ns", int(progress.first_token * 1e9)),
        text("last_token_time_ns", int(progress.last_token * 1e9)),
        text("acceptance_rate", progress.acceptance),
        text("total_accepted_draft_tokens", progress.accepted),
        text("total_draft_tokens", progress.drafted),
    ]


def _model_yaml() -> Mapping[str, Any]:
    path = Path(pb_utils.get_model_dir()) / os.environ.get("LLM_CONFIG_PATH", "model.yaml")
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise pb_utils.TritonModelException(f"cannot read {path}: {error}") from error
    if not isinstance(found, Mapping) or not isinstance(found.get("triton_config"), Mapping):
        raise pb_utils.TritonModelException(f"{path} has no mapping triton_config")
    return found


class TritonPythonModel(ServedModel):
    """Options lie in model.yaml."""

    wire = LlmApiWire

    @classmethod
    def auto_complete_config(cls, config: Any) -> Any:
        triton = _model_yaml()["triton_config"]
        config.set_model_transaction_policy({"decoupled": bool(triton["decoupled"])})
        config.set_max_batch_size(int(triton["max_batch_size"]))
        return config

    def options(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        if config["max_batch_size"]:
            raise ValueError("triton_config.max_batch_size must be 0: llmapi does not batch")
        return _model_yaml()
