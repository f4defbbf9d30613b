"""The endpoints that generate, as OpenAI's clients know them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headgate_gateway.calls.adapter import Endpoint
from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.completion_request import read_completion_request
from headgate_gateway.edge.embedding_request import read_embedding_request
from headgate_gateway.edge.read_chat import read_chat_request
from headgate_gateway.refusals import Refusal
from headgate_gateway.streaming.bodies import Names, Stream, Whole
from headgate_gateway.streaming.chat import ChatStream, ChatWhole
from headgate_gateway.streaming.completion import CompletionStream, CompletionWhole
from headgate_gateway.streaming.embedding import EmbeddingWhole


@dataclass(frozen=True, slots=True)
class Surface:
    """How one endpoint reads requests and writes answers. All between is the same for all."""

    endpoint: Endpoint
    prefix: str  # of an answer's id
    read: Callable[[bytes], Asked | Refusal]
    whole: Callable[[Names, Any], Whole]  # with the request that `read` returned
    stream: Callable[[Names, Any], Stream] | None = None


SURFACES: Final[Mapping[str, Surface]] = {
    "/v1/chat/completions": Surface(
        "chat/completions", "chatcmpl-", read_chat_request, ChatWhole, ChatStream
    ),
    "/v1/completions": Surface(
        "completions", "cmpl-", read_completion_request, CompletionWhole, CompletionStream
    ),
    "/v1/embeddings": Surface("embeddings", "embd-", read_embedding_request, EmbeddingWhole),
}
"""By path."""
