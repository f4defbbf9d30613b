"""Embedding models on Triton: one `infer` with all texts, and vectors in binary.

A model takes `text_input` (BYTES, [n, 1]) and answers with `embedding` (FP32, [n, d]); it may add
`num_input_tokens` (INT32, n numbers). The tensors come behind a JSON head as they lie in memory,
so that nothing is parsed of what most clients want packed anyway.
"""

import math
import struct
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final

from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.events import End, Event, Failed, Usage, Vectors
from headgate_gateway.calls.triton_head import DECODE
from headgate_gateway.calls.whole_body import WholeBody
from headgate_gateway.refusals import Code, Refusal

CHARACTERS_PER_TOKEN: Final = 4
LONGEST: Final = 64 * 1024 * 1024
"""Bytes of one answer: 2048 vectors of 8192 numbers."""
TYPES: Final = {"embedding": "FP32", "num_input_tokens": "INT32"}
LONGEST_HEAD: Final = 16 * 1024
DIMENSIONS: Final = Failed(
    Refusal(Code.INVALID_VALUE, 400, "This model's vectors are not that long.", "dimensions")
)


def embedding_fields(task: Task) -> dict[str, Any]:
    texts = {
        "name": "text_input",
        "datatype": "BYTES",
        "shape": [len(task.inputs), 1],
        "data": task.inputs,
    }
    return {"inputs": [texts], "parameters": {"binary_data_output": True}}


class EmbeddingReader(WholeBody):
    def __init__(self, task: Task) -> None:
        guess = sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text in task.inputs)
        super().__init__(task, LONGEST, Usage(guess, 0, estimated=True))

    def _read(self, body: bytes) -> tuple[Event, ...]:
        tensors = _tensors(body)
        rows = _rows(tensors["embedding"], len(self._task.inputs))
        if "num_input_tokens" in tensors:
            self._usage = Usage(_sum(tensors["num_input_tokens"]), 0)
        if (wanted := self._task.dimensions) is not None:
            if wanted * 4 > len(rows[0]):
                return (DIMENSIONS,)
            rows = [shortened(row, wanted) for row in rows]
        return (Vectors(tuple(rows)), End("stop", self._usage))


def _tensors(body: bytes) -> dict[str, bytes]:
    """Cut an answer into its tensors, by name. Raises `ValueError` where something is amiss."""
    text = body[:LONGEST_HEAD].decode("latin-1")
    try:
        _, at = JSONDecoder().raw_decode(text)
    except JSONDecodeError as error:
        raise ValueError("the answer does not begin with JSON") from error
    head = DECODE(body[:at])
    found = {}
    for output in head.outputs:
        if output.datatype != TYPES.get(output.name, output.datatype):
            raise ValueError(f"{output.name} is {output.datatype}")
        size = output.parameters.binary_data_size
        found[output.name] = body[at : at + size]
        at += size
    if at != len(body):
        raise ValueError("the tensors are not as long as the head says")
    return found


def _rows(tensor: bytes, count: int) -> list[bytes]:
    size, rest = divmod(len(tensor), count)
    if rest or size % 4 or not size:
        raise ValueError("the vectors are not as many as the texts")
    return [tensor[at : at + size] for at in range(0, len(tensor), size)]


def _sum(tensor: bytes) -> int:
    if len(tensor) % 4:
        raise ValueError("num_input_tokens is cut")
    counts = struct.unpack(f"<{len(tensor) // 4}i", tensor)
    if min(counts, default=0) < 0:
        raise ValueError("num_input_tokens is negative")
    return sum(counts)


def shortened(row: bytes, dimensions: int) -> bytes:
    """Cut a vector and scale it to length 1, which is right for models trained for it.

    >>> struct.unpack("<2f", shortened(struct.pack("<3f", 3.0, 4.0, 5.0), 2))
    (0.6000000238418579, 0.800000011920929)
    """
    numbers = struct.unpack_from(f"<{dimensions}f", row)
    length = math.sqrt(math.fsum(x * x for x in numbers)) or 1.0
    return struct.pack(f"<{dimensions}f", *(x / length for x in numbers))
