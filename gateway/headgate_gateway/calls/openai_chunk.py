"""One event of an OpenAI server's stream, as far as it matters here."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from headgate_gateway.calls.events import Count


class Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class CallDelta(Struct):
    index: int = 0
    id: str | None = None
    function: Function | None = None


class Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallDelta] | None = None


class Logprobs(Struct):
    content: list[Raw] | None = None


class Choice(Struct):
    delta: Delta | None = None
    text: str | None = None
    """Of completions, which have no delta."""
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class InputDetails(Struct, gc=False):
    cached_tokens: Count | None = None


class OutputDetails(Struct, gc=False):
    reasoning_tokens: Count | None = None


class Counts(Struct, gc=False):
    prompt_tokens: Count = 0
    completion_tokens: Count | None = 0
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class Chunk(Struct):
    choices: list[Choice] = []
    usage: Counts | None = None
    object: str = ""
    message: str = ""
    error: Any = None


DECODE: Final = msgspec.json.Decoder(Chunk).decode
