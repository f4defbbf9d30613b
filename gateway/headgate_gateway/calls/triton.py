"""Triton's `generate_stream` as the two runtimes speak it.

Both are always asked to stream, even for a plain answer: only streams can be cancelled. The
difference that matters most: the ensemble sends what is new, the llmapi model sends all text so
far (`CompletionOutput.text`), in every event.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import msgspec

from headgate_gateway.calls.events import End, Failed, FinishReason, Text, Usage
from headgate_gateway.refusals import Code, Refusal

CHARACTERS_PER_TOKEN: Final = 4
"""Where nobody counts; English text on current tokenizers."""
UNFINISHED: Final = "\N{REPLACEMENT CHARACTER}"
"""What a detokenizer writes for the first tokens of a character that takes several."""
FULL: Final = ("maximum queue size", "request timeout expired")
"""How Triton's schedulers and TensorRT-LLM's backend say that a queue takes no more, or held a
request for too long, in lower case. The status is 503 or 400, by the way that the error took."""

INVALID: Final = Failed(
    Refusal(Code.UPSTREAM_INVALID, 502, "The model server sent something that is no answer.")
)
REPORTED: Final = Failed(
    Refusal(Code.UPSTREAM_ERROR, 502, "The model server could not complete this request.")
)
OVERLOADED: Final = Failed(
    Refusal(Code.UPSTREAM_OVERLOADED, 503, "The model's queue is full.", retry_after=1)
)
UNAVAILABLE: Final = Failed(
    Refusal(Code.UPSTREAM_OVERLOADED, 503, "The model server takes no requests now.", retry_after=1)
)
CUT: Final = Failed(
    Refusal(Code.UPSTREAM_LOST, 502, "The connection to the model server broke. Try again.")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to generate. None: the model server's own default."""

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None  # 0 to 2^64 - 1
    stop: tuple[str, ...] = ()


class Reader(Protocol):
    """Turns the events of one answer into ours. After `End` or `Failed` it is not asked again."""

    @property
    def error(self) -> str:
        """What the model server said went wrong: for our log, never for the client."""
        ...

    def read(self, data: bytes) -> Text | Failed | None:
        """Read one event's data. None: nothing in it for the client."""
        ...

    def end(self) -> End | Failed:
        """The answer ended as it should; was it whole?"""
        ...


class _Reply(msgspec.Struct, gc=False):
    """One event of either runtime. Outputs that we do not use are skipped by the decoder."""

    text_output: str = ""
    finish_reason: str | None = None
    num_input_tokens: int | None = None
    num_output_tokens: int | None = None
    error: str | None = None


_DECODE: Final = msgspec.json.Decoder(_Reply).decode


class _Reading:
    """What both readers share: decoding, errors and counting."""

    def __init__(self, prompt: str, sampling: Sampling) -> None:
        self._prompt = len(prompt)
        self._max_tokens = sampling.max_tokens
        self._input_tokens: int | None = None
        self._output_tokens: int | None = None
        self._replies = 0
        self.error = ""

    def _decode(self, data: bytes) -> _Reply | Failed:
        try:
            reply = _DECODE(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.error = str(error)
            return INVALID
        if reply.error is not None:
            self.error = reply.error
            return failure(reply.error)
        self._replies += 1
        if reply.num_input_tokens is not None:
            self._input_tokens = reply.num_input_tokens
        if reply.num_output_tokens is not None:
            self._output_tokens = reply.num_output_tokens
        return reply

    def _usage(self) -> Usage:
        if self._input_tokens is not None and self._output_tokens is not None:
            return Usage(self._input_tokens, self._output_tokens)
        guess = -(-self._prompt // CHARACTERS_PER_TOKEN)
        # One reply holds at least one token.
        replies = min(self._replies, self._max_tokens)
        return Usage(self._input_tokens or guess, self._output_tokens or replies, estimated=True)


class _EnsembleReader(_Reading):
    """New text in every event, counts in every event, and no reason for the end."""

    def read(self, data: bytes) -> Text | Failed | None:
        reply = self._decode(data)
        if isinstance(reply, Failed):
            return reply
        return Text(reply.text_output) if reply.text_output else None

    def end(self) -> End | Failed:
        if not self._replies:
            return CUT
        usage = self._usage()
        full = usage.output_tokens >= self._max_tokens
        return End("length" if full else "stop", usage)


class _LlmapiReader(_Reading):
    """All text so far in every event, and a reason in the last one ("None" in the others)."""

    def __init__(self, prompt: str, sampling: Sampling) -> None:
        super().__init__(prompt, sampling)
        self._told = ""
        self._reason: FinishReason | Literal["cut"] | None = None

    def read(self, data: bytes) -> Text | Failed | None:
        reply = self._decode(data)
        if isinstance(reply, Failed):
            return reply
        if reply.finish_reason not in (None, "None"):
            self._reason = _reason(str(reply.finish_reason))
        whole = reply.text_output
        if self._reason is None:
            whole = whole.rstrip(UNFINISHED)  # the next event may complete the character
        if not whole.startswith(self._told):
            if self._told.startswith(whole):
                return None
            self.error = "the text changed after it was sent"
            return INVALID
        new = whole[len(self._told) :]
        self._told = whole
        return Text(new) if new else None

    def end(self) -> End | Failed:
        match self._reason:
            case None | "cut":
                # Without a reason something is missing, however cleanly the stream ended.
                return CUT
            case reason:
                return End(reason, self._usage())


def _reason(word: str) -> FinishReason | Literal["cut"]:
    match word:
        case "stop" | "length":
            return word
        case _:  # "timeout", "cancelled"
            return "cut"


def failure(said: str, status: int = 200) -> Failed:
    """Tell what a model server's error means for the client.

    Args:
        said: its words.
        status: HTTP status that they came with.

    >>> failure('{"error":"Exceeds maximum queue size"}', 400) is OVERLOADED
    True
    """
    if any(words in said.lower() for words in FULL):
        return OVERLOADED
    return UNAVAILABLE if status == 503 else REPORTED


@dataclass(frozen=True, slots=True)
class Adapter:
    """One runtime's dialect."""

    fields: Callable[[str, Sampling], Mapping[str, Any]]
    reader: Callable[[str, Sampling], Reader]


def _llmapi_fields(prompt: str, sampling: Sampling) -> dict[str, Any]:
    names = ("max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty", "seed")
    fields = {f"sampling_param_{name}": getattr(sampling, name) for name in names}
    fields["sampling_param_stop"] = list(sampling.stop) or None
    given = {name: value for name, value in fields.items() if value is not None}
    return {
        "text_input": prompt,
        "streaming": True,
        "return_finish_reason": True,
        "sampling_param_exclude_input_from_output": True,
        **given,
    }


def _ensemble_fields(prompt: str, sampling: Sampling) -> dict[str, Any]:
    names = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed")
    fields = {name: getattr(sampling, name) for name in names}
    fields["stop_words"] = list(sampling.stop) or None
    given = {name: value for name, value in fields.items() if value is not None}
    return {
        "text_input": prompt,
        "max_tokens": sampling.max_tokens,
        "stream": True,
        "exclude_input_in_output": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
        **given,
    }


ADAPTERS: Final[Mapping[str, Adapter]] = {
    "triton-llmapi": Adapter(_llmapi_fields, _LlmapiReader),
    "triton-python": Adapter(_ensemble_fields, _EnsembleReader),
}
"""By `Cohort.runtime`."""


def request_bytes(host: str, served_model: str, fields: Mapping[str, Any], trace: bytes) -> bytes:
    """Build the whole HTTP request.

    Args:
        host: address and port, as the Host header has them.
        served_model: Triton's name of the model.
        fields: input tensors.
        trace: header lines to pass on, each with its line end.
    """
    body = msgspec.json.encode(fields)
    return b"".join(
        (
            f"POST /v2/models/{served_model}/generate_stream HTTP/1.1\r\nhost: {host}\r\n".encode(),
            b"content-type: application/json\r\n",
            trace,
            b"content-length: %d\r\n\r\n" % len(body),
            body,
        )
    )
