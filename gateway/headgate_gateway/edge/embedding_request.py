"""`POST /v1/embeddings`: texts to turn into vectors."""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.body_reader import BodyReader
from headgate_gateway.refusals import Refusal

Input: TypeAlias = Annotated[str, Meta(min_length=1)]


class EmbeddingRequest(Asked, kw_only=True):
    input: Input | Annotated[list[Input], Meta(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,) if isinstance(self.input, str) else tuple(self.input)

    @property
    def texts(self) -> list[str]:
        return list(self.inputs)


NARROW: Final[dict[str, str]] = {}
_WORDS: Final = {"encoding_format": ("float", "base64")}
_READER: Final = BodyReader(NARROW, _WORDS)
_DECODE: Final = msgspec.json.Decoder(EmbeddingRequest).decode


def read_embedding_request(body: bytes) -> EmbeddingRequest | Refusal:
    """Read and check a body."""
    return _READER.read(_DECODE, body)
