"""The simulated LLM under the names of TensorRT-LLM's `ensemble` and `tensorrt_llm_bls`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# The stub runs Python isolated: there is no PYTHONPATH to say this with.
sys.path.insert(0, str(Path(__file__).parents[3]))

from simulated_llm.answer import Ask
from simulated_llm.engine import Progress
from simulated_llm.served import ServedModel, Wire
from simulated_llm.settings import parameters
from simulated_llm.tensors import number, required, scalar, strings, text


class EnsembleWire(Wire):
    """Streams what is new; counts tokens when asked; does not say why a text ends."""

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.streaming = scalar(request, "stream", default=False)
        self._wants = frozenset(
            name
            for name in ("log_probs", "perf_metrics", "num_input_tokens", "num_output_tokens")
            if scalar(request, f"return_{name}", default=False)
        )
        echo = not scalar(request, "exclude_input_in_output", default=False)
        self._prefix = self._prompt() if echo and not self.streaming else ""

    def ask(self) -> Ask:
        return Ask(
            prompt=self._prompt(),
            max_tokens=required(self.request, "max_tokens"),
            seed=scalar(self.request, "seed", default=0),
            stops=strings(self.request, "stop_words"),
        )

    def outputs(self, progress: Progress, *, last: bool) -> list[Any]:
        answer = progress.answer
        new = answer.piece(progress.before, progress.sent)
        said = new if self.streaming else self._prefix + answer.text
        out = [text("text_output", said)]
        if "log_probs" in self._wants:
            out.append(number("cum_log_probs", -0.5 * progress.sent, np.float32))
        if "num_input_tokens" in self._wants:
            out.append(number("num_input_tokens", answer.input_tokens, np.int32))
        if "num_output_tokens" in self._wants:
            out.append(number("num_output_tokens", progress.sent, np.int32))
        if "perf_metrics" in self._wants and last:
            out += _perf_metrics(progress)
        return out

    def _prompt(self) -> str:
        return str(required(self.request, "text_input"))


def _perf_metrics(progress: Progress) -> list[Any]:
    return [
        number("kv_cache_alloc_new_blocks", progress.blocks, np.int32),
        number("kv_cache_reused_blocks", 0, np.int32),
        number("kv_cache_alloc_total_blocks", progress.blocks, np.int32),
        number("arrival_time_ns", progress.arrived * 1e9, np.int64),
        number("first_scheduled_time_ns", progress.scheduled * 1e9, np.int64),
        number("first_token_time_ns", progress.first_token * 1e9, np.int64),
        number("last_token_time_ns", progress.last_token * 1e9, np.int64),
        number("acceptance_rate", progress.acceptance, np.float32),
        number("total_accepted_draft_tokens", progress.accepted, np.int32),
        number("total_draft_tokens", progress.drafted, np.int32),
    ]


class TritonPythonModel(ServedModel):
    """Options lie in the parameters of the configuration."""

    wire = EnsembleWire

    def options(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        if config["max_batch_size"]:
            raise ValueError("the simulated ensemble needs max_batch_size: 0 in its configuration")
        return parameters(config)
