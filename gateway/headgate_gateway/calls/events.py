"""What comes out of a model server, whatever its protocol.

A call yields any number of `Text`, `Reasoning`, `ToolCall`, `Vectors` and `Waiting`, then exactly
one `End` or `Failed`. They are structs, not dataclasses: one is made for every token.
"""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from headgate_gateway.refusals import Refusal

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""Tokens as a model server counts them. What it charges is charged, so nothing else is believed."""
NO_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for what is no JSON, not the right one, or nested without a bottom."""


class Text(Struct, frozen=True):
    """New text of the answer, never empty."""

    text: str
    logprobs: tuple[msgspec.Raw, ...] = ()
    """Of its tokens, as the model server wrote them, where the client asked for them."""


class Reasoning(Struct, frozen=True, gc=False):
    """New text that the model thought rather than said, never empty."""

    text: str


class ToolCall(Struct, frozen=True, gc=False):
    """A call that the model asks for, whole: what checks it must see all of it."""

    index: int
    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""


class Vectors(Struct, frozen=True):
    """Embeddings, one for each input and in their order. There is one such event per call."""

    vectors: tuple[bytes, ...]
    """FP32 numbers, little-endian, as they are sent on in most cases."""


class Waiting(Struct, frozen=True, gc=False):
    """Nothing has come for a while; the client may want a sign of life."""

    reason: str = ""
    """What it waits for, such as `stage small`. Empty: a model."""


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one call."""

    input_tokens: int
    output_tokens: int
    estimated: bool = False
    """The model server does not count: input by length, output by the number of its answers."""
    cached_tokens: int | None = None
    """Of the input, those that the model server had already read. None: it does not tell."""
    reasoning_tokens: int | None = None
    """Of the output, those that were thought. None: it does not tell."""
    drafted_tokens: int | None = None
    """Guessed ahead, for the model to accept or not. None: it does not tell; so is the next one."""
    accepted_tokens: int | None = None


NOTHING: Final = Usage(0, 0)


class End(Struct, frozen=True, gc=False):
    """The answer is complete."""

    finish_reason: FinishReason
    usage: Usage
    logprob: float | None = None
    """Of all of it, from a model server that tells it at the end, and not with each text."""


class Failed(Struct, frozen=True):
    """There is no more, and what came is not a whole answer."""

    refusal: Refusal


WAITING: Final = Waiting()
Event: TypeAlias = Text | Reasoning | ToolCall | Vectors | Waiting | End | Failed


MOST_KEPT: Final = 32 * 1024 * 1024
"""Bytes of one answer that are kept until it can be given. Who writes more has run wild."""
OVERHEAD: Final = 200
"""Bytes that an event takes, however small it is."""


def weight(event: Event) -> int:
    """Tell how many bytes an event takes while it is kept, roughly."""
    if type(event) is Text and not event.logprobs:  # as nearly all are
        return OVERHEAD + len(event.text)
    match event:
        case Text(text, logprobs):
            return OVERHEAD + len(text) + sum(map(len, logprobs))
        case Reasoning(text) | ToolCall(arguments=text):
            return OVERHEAD + len(text)
        case _:  # readers see to the size of vectors
            return OVERHEAD
