"""Answers of `/v1/embeddings`: a vector for each input."""

import struct
from base64 import b64encode

from headgate_gateway.calls.events import End, Event, Vectors
from headgate_gateway.edge.embedding_request import EmbeddingRequest
from headgate_gateway.streaming.bodies import Names, Whole, encode


class EmbeddingWhole(Whole):
    """See `Whole`."""

    __slots__ = ("_names", "_packed", "_vectors")

    def __init__(self, names: Names, asked: EmbeddingRequest) -> None:
        self._names = names
        self._packed = asked.encoding_format == "base64"
        self._vectors: tuple[bytes, ...] = ()

    def add(self, event: Event) -> None:
        if isinstance(event, Vectors):
            self._vectors = event.vectors

    def body(self, end: End) -> bytes:
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": b64encode(vector).decode() if self._packed else numbers(vector),
            }
            for index, vector in enumerate(self._vectors)
        ]
        tokens = end.usage.input_tokens
        return encode(
            {
                "object": "list",
                "data": data,
                "model": self._names.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )


def numbers(vector: bytes) -> tuple[float, ...]:
    """Read FP32 numbers, little-endian.

    >>> numbers(bytes.fromhex("0000803f000000c0"))
    (1.0, -2.0)
    """
    return struct.unpack(f"<{len(vector) // 4}f", vector)
