"""Answers of an OpenAI server's `/v1/embeddings`."""

from base64 import b64decode
from typing import Final

from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.events import End, Event, Usage, Vectors
from headgate_gateway.calls.openai_vectors import DECODE, Row
from headgate_gateway.calls.whole_body import WholeBody

LONGEST: Final = 96 * 1024 * 1024
"""Bytes of one answer."""


class OpenAIEmbeddingReader(WholeBody):
    def __init__(self, task: Task) -> None:
        super().__init__(task, LONGEST, Usage(0, 0, estimated=True))

    def _read(self, body: bytes) -> tuple[Event, ...]:
        answer = DECODE(body)
        vectors = _vectors(answer.data, len(self._task.inputs))
        self._usage = Usage(answer.usage.prompt_tokens, 0)
        return (Vectors(vectors), End("stop", self._usage))


def _vectors(found: list[Row], count: int) -> tuple[bytes, ...]:
    rows = {row.index: b64decode(row.embedding, validate=True) for row in found}
    vectors = tuple(rows[index] for index in range(count))
    if {len(vector) for vector in vectors} != {len(vectors[0]) // 4 * 4 or 4}:
        raise ValueError("the vectors are not FP32, or not of one length")
    return vectors
