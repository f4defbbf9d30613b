"""What comes out of a model server, whatever its protocol.

A call yields any number of `Text`, `Reasoning`, `ToolCall`, `Vectors` and `Waiting`, then exactly
one `End` or `Failed`.
"""

from typing import Annotated, Final, Literal, TypeAlias, final

import msgspec

from headgate_gateway.refusals import Refusal
from headgate_gateway.values import Value

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""Tokens as a model server counts them. What it charges is charged, so nothing else is believed."""
NO_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for what is no JSON, not the right one, or nested without a bottom."""


@final
class Text(Value):
    """New text of the answer, never empty."""

    __match_args__: Final = ("text", "logprobs")

    def __init__(self, text: str, logprobs: tuple[msgspec.Raw, ...] = ()) -> None:
        self.text: Final = text
        self.logprobs: Final = logprobs
        """Of its tokens, as the model server wrote them, where the client asked for them."""


@final
class Reasoning(Value):
    """New text that the model thought rather than said, never empty."""

    __match_args__: Final = ("text",)

    def __init__(self, text: str) -> None:
        self.text: Final = text


@final
class ToolCall(Value):
    """A call that the model asks for, whole: what checks it must see all of it."""

    __match_args__: Final = ("index", "id", "name", "arguments")

    def __init__(self, index: int, id: str, name: str, arguments: str) -> None:  # noqa: A002
        self.index: Final = index
        self.id: Final = id
        self.name: Final = name
        self.arguments: Final = arguments
        """JSON text, as the model wrote it."""


@final
class Vectors(Value):
    """Embeddings, one for each input and in their order. There is one such event per call."""

    __match_args__: Final = ("vectors",)

    def __init__(self, vectors: tuple[bytes, ...]) -> None:
        self.vectors: Final = vectors
        """FP32 numbers, little-endian, as they are sent on in most cases."""


@final
class Waiting(Value):
    """Nothing has come for a while; the client may want a sign of life."""

    __match_args__: Final = ("reason",)

    def __init__(self, reason: str = "") -> None:
        self.reason: Final = reason
        """What it waits for, such as `stage small`. Empty: a model."""


@final
class Usage(Value):
    """Tokens of one call."""

    __match_args__: Final = (
        "input_tokens",
        "output_tokens",
        "estimated",
        "cached_tokens",
        "reasoning_tokens",
        "drafted_tokens",
        "accepted_tokens",
    )

    def __init__(
        self,
        input_tokens: int,
        output_tokens: int,
        estimated: bool = False,
        *,
        cached_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        drafted_tokens: int | None = None,
        accepted_tokens: int | None = None,
    ) -> None:
        self.input_tokens: Final = input_tokens
        self.output_tokens: Final = output_tokens
        self.estimated: Final = estimated
        """The model server does not count: input by length, output by the number of its answers."""
        self.cached_tokens: Final = cached_tokens
        """Of the input, those that the model server had already read. None: it does not tell."""
        self.reasoning_tokens: Final = reasoning_tokens
        """Of the output, those that were thought. None: it does not tell."""
        self.drafted_tokens: Final = drafted_tokens
        """Guessed ahead, for the model to accept or not. None: it does not tell; so is the next."""
        self.accepted_tokens: Final = accepted_tokens

    @property
    def tokens(self) -> tuple[int, int]:
        """Those read and those written."""
        return self.input_tokens, self.output_tokens


NOTHING: Final = Usage(0, 0)


@final
class End(Value):
    """The answer is complete."""

    __match_args__: Final = ("finish_reason", "usage", "logprob")

    def __init__(
        self, finish_reason: FinishReason, usage: Usage, logprob: float | None = None
    ) -> None:
        self.finish_reason: Final = finish_reason
        self.usage: Final = usage
        self.logprob: Final = logprob
        """Of all of it, from a model server that tells it at the end, and not with each text."""


@final
class Failed(Value):
    """There is no more, and what came is not a whole answer."""

    __match_args__: Final = ("refusal",)

    def __init__(self, refusal: Refusal) -> None:
        self.refusal: Final = refusal


WAITING: Final = Waiting()
Event: TypeAlias = Text | Reasoning | ToolCall | Vectors | Waiting | End | Failed


MOST_KEPT: Final = 32 * 1024 * 1024
"""Bytes of one answer that are kept until it can be given. Who writes more has run wild."""
OVERHEAD: Final = 200
"""Bytes that an event takes, however small it is."""


def weight(event: Event) -> int:
    """Tell how many bytes an event takes while it is kept, roughly."""
    if isinstance(event, Text) and not event.logprobs:  # as nearly all are
        return OVERHEAD + len(event.text)
    match event:
        case Text(text, logprobs):
            return OVERHEAD + len(text) + sum(map(len, logprobs))
        case Reasoning(text) | ToolCall(arguments=text):
            return OVERHEAD + len(text)
        case _:  # readers see to the size of vectors
            return OVERHEAD
