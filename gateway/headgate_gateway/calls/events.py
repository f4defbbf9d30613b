"""What comes out of a model server, whatever its protocol: text, an end, or a failure.

A call yields any number of `Text` and `Waiting`, then exactly one `End` or `Failed`.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from headgate_gateway.refusals import Refusal

FinishReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Text:
    """New text, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing has come for a while; the client may want a sign of life."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call."""

    input_tokens: int
    output_tokens: int
    estimated: bool = False
    """The model server does not count: input by length, output by the number of its answers."""


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete."""

    finish_reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no more, and what came is not a whole answer."""

    refusal: Refusal


WAITING: Final = Waiting()
Event: TypeAlias = Text | Waiting | End | Failed
