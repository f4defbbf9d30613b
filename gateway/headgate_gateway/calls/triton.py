"""Triton's `generate_stream` as the two runtimes speak it.

Both are always asked to stream, even for a plain answer: only streams can be cancelled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from headgate_gateway.calls.adapter import Reader, Task, post
from headgate_gateway.calls.events import Failed
from headgate_gateway.calls.failures import failure
from headgate_gateway.calls.filters import in_form
from headgate_gateway.calls.triton_embedding import EmbeddingReader, embedding_fields
from headgate_gateway.calls.triton_readers import EnsembleReader, GuessingReader, LlmapiReader
from headgate_gateway.calls.triton_tensors import ensemble, guessing, llmapi


@dataclass(frozen=True, slots=True)
class Triton:
    """An `Adapter` for one of the two."""

    tensors: Callable[[Task, str, int], msgspec.Struct]
    """Of a task, the call's id, and the time that is left for it in ms."""
    reading: Callable[[Task], Reader]
    stopping: Mapping[str, Any]
    """Tensors that a request to stop another one must have."""

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
            body = msgspec.json.encode({"id": call_id, **embedding_fields(task)})
            return post(f"/v2/models/{served_model}/infer", host, headers, body)
        body = msgspec.json.encode(self.tensors(task, call_id, left_ms))
        return post(f"/v2/models/{served_model}/generate_stream", host, headers, body)

    def stop(self, *, call_id: str, host: str, served_model: str) -> bytes:
        """Until the first event Triton does not look whether the caller is still there."""
        path = f"/v2/models/{served_model}/generate_stream"
        fields = {"id": call_id, "text_input": "", "stop": True, **self.stopping}
        return post(path, host, b"", msgspec.json.encode(fields))

    def reader(self, task: Task) -> Reader:
        if task.endpoint == "embeddings":
            return EmbeddingReader(task)
        reader = self.reading(task)
        return reader if task.form is None else in_form(reader, task.form, in_text=True)

    def failure(self, said: str, status: int) -> Failed:
        return failure(said, status)


LLMAPI: Final = Triton(llmapi, LlmapiReader, {})
GUESSING_LLMAPI: Final = Triton(guessing, GuessingReader, {})
ENSEMBLE: Final = Triton(ensemble, EnsembleReader, {"max_tokens": 1})
