"""What Triton's `generate_stream` is asked, as the two runtimes want it: tensors by name."""

from typing import Final

import msgspec

from headgate_gateway.calls.adapter import Task

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


class _LlmapiTensors(_Tensors, rename={name: f"sampling_param_{name}" for name in LLMAPI_SAMPLING}):
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


def llmapi(task: Task, call_id: str, left_ms: int) -> _LlmapiTensors:
    sampling = task.sampling
    return _LlmapiTensors(
        id=call_id,
        text_input=task.prompt,
        request_timeout_ms=left_ms,
        streaming=True,
        return_finish_reason=True,
        exclude_input_from_output=True,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        seed=sampling.seed,
        stop=sampling.stop or None,
    )


def guessing(task: Task, call_id: str, left_ms: int) -> _LlmapiTensors:
    tensors = llmapi(task, call_id, left_ms)
    tensors.return_perf_metrics = True
    return tensors


class _EnsembleTensors(_Tensors):
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


def ensemble(task: Task, call_id: str, left_ms: int) -> _EnsembleTensors:
    sampling, (kind, guide) = task.sampling, task.guide or (None, None)
    return _EnsembleTensors(
        id=call_id,
        text_input=task.prompt,
        request_timeout_ms=left_ms,
        stream=True,
        exclude_input_in_output=True,
        return_num_input_tokens=True,
        return_num_output_tokens=True,
        return_log_probs=task.logprobs,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        seed=sampling.seed,
        stop_words=sampling.stop or None,
        guided_decoding_guide_type=kind,
        guided_decoding_guide=guide or None,
    )
