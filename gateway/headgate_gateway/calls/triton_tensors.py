"""What Triton's `generate_stream` is asked, as the two runtimes want it: tensors by name."""

from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.triton_bodies import EnsembleTensors, LlmapiTensors


def llmapi(task: Task, call_id: str, left_ms: int) -> LlmapiTensors:
    sampling = task.sampling
    return LlmapiTensors(
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


def guessing(task: Task, call_id: str, left_ms: int) -> LlmapiTensors:
    tensors = llmapi(task, call_id, left_ms)
    tensors.return_perf_metrics = True
    return tensors


def ensemble(task: Task, call_id: str, left_ms: int) -> EnsembleTensors:
    sampling, (kind, guide) = task.sampling, task.guide or (None, None)
    return EnsembleTensors(
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
