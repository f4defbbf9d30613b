"""Triton's `generate_stream` as the two runtimes speak it.

Both are always asked to stream, even for a plain answer: only streams can be cancelled.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Final

import msgspec

from headgate_gateway.calls.adapter import Adapter, Reader, Task, post
from headgate_gateway.calls.events import Failed
from headgate_gateway.calls.failures import failure
from headgate_gateway.calls.filters import in_form
from headgate_gateway.calls.triton_embedding import EmbeddingReader, embedding_fields
from headgate_gateway.calls.triton_readers import EnsembleReader, GuessingReader, LlmapiReader
from headgate_gateway.calls.triton_tensors import ensemble, guessing, llmapi

_encode: Final = msgspec.json.encode


class Triton(Adapter):
    """What the two have in common.

    Args:
        stopping: tensors that a request to stop another one must have.
    """

    def __init__(self, stopping: Mapping[str, int]) -> None:
        self._stopping = stopping

    @abstractmethod
    def _tensors(self, task: Task, call_id: str, left_ms: int) -> bytes:
        """Write a task down, with the call's id, and the time that is left for it in ms."""

    @abstractmethod
    def _reading(self, task: Task) -> Reader:
        """Make who reads the answer as it comes."""

    def request(
        self,
        task: Task,
        *,
        call_id: str,
        host: str,
        served_model: str,
        left_ms: int,
        headers: bytes,
    ) -> bytes:
        if task.endpoint == "embeddings":
            body = _encode({"id": call_id, **embedding_fields(task)})
            return post(f"/v2/models/{served_model}/infer", host, headers, body)
        body = self._tensors(task, call_id, left_ms)
        return post(f"/v2/models/{served_model}/generate_stream", host, headers, body)

    def stop(self, *, call_id: str, host: str, served_model: str) -> bytes:
        """Until the first event Triton does not look whether the caller is still there."""
        path = f"/v2/models/{served_model}/generate_stream"
        fields = {"id": call_id, "text_input": "", "stop": True, **self._stopping}
        return post(path, host, b"", _encode(fields))

    def reader(self, task: Task) -> Reader:
        if task.endpoint == "embeddings":
            return EmbeddingReader(task)
        reader = self._reading(task)
        return reader if task.form is None else in_form(reader, task.form, in_text=True)

    def failure(self, said: str, status: int) -> Failed:
        return failure(said, status)


class Llmapi(Triton):
    def _tensors(self, task: Task, call_id: str, left_ms: int) -> bytes:
        return _encode(llmapi(task, call_id, left_ms))

    def _reading(self, task: Task) -> Reader:
        return LlmapiReader(task)


class GuessingLlmapi(Triton):
    def _tensors(self, task: Task, call_id: str, left_ms: int) -> bytes:
        return _encode(guessing(task, call_id, left_ms))

    def _reading(self, task: Task) -> Reader:
        return GuessingReader(task)


class Ensemble(Triton):
    def _tensors(self, task: Task, call_id: str, left_ms: int) -> bytes:
        return _encode(ensemble(task, call_id, left_ms))

    def _reading(self, task: Task) -> Reader:
        return EnsembleReader(task)


LLMAPI: Final = Llmapi({})
GUESSING_LLMAPI: Final = GuessingLlmapi({})
ENSEMBLE: Final = Ensemble({"max_tokens": 1})
