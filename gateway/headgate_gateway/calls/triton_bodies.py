"""The tensors that Triton's `generate_stream` is asked with, by the names they have there."""

from typing import Final

import msgspec

LLMAPI_SAMPLING: Final = (
    *("exclude_input_from_output", "max_tokens", "temperature", "top_p", "frequency_penalty"),
    *("presence_penalty", "seed", "stop", "return_perf_metrics"),
)


class _Tensors(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What both have. What is None is not sent: the model server knows its own default."""

    id: str
    text_input: str
    request_timeout_ms: int
    """No tensor, so it becomes a parameter of the request. Headers do not on this path."""


class LlmapiTensors(_Tensors, rename={name: f"sampling_param_{name}" for name in LLMAPI_SAMPLING}):
    streaming: bool
    return_finish_reason: bool
    exclude_input_from_output: bool
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    return_perf_metrics: bool = False


class EnsembleTensors(_Tensors):
    stream: bool
    exclude_input_in_output: bool
    return_num_input_tokens: bool
    return_num_output_tokens: bool
    max_tokens: int
    return_log_probs: bool = False
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop_words: tuple[str, ...] | None = None
    guided_decoding_guide_type: str | None = None
    guided_decoding_guide: str | None = None
