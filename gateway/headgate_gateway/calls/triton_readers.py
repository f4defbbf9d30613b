"""What Triton's `generate_stream` answers, as the two runtimes do.

The difference that matters most: the ensemble sends what is new, the llmapi model sends all text so
far (`CompletionOutput.text`), in every event.
"""

from abc import abstractmethod
from typing import Final, Literal

from headgate_gateway.calls import sse
from headgate_gateway.calls.adapter import Reader, Task
from headgate_gateway.calls.events import (
    NO_JSON,
    End,
    Event,
    Failed,
    FinishReason,
    Text,
    Usage,
)
from headgate_gateway.calls.failures import CUT, INVALID, OVERRUN, failure
from headgate_gateway.calls.growing import UNFINISHED, Growing
from headgate_gateway.calls.triton_reply import DECODE, DECODE_DRAFTS, Drafts, Reply

CHARACTERS_PER_TOKEN: Final = 4
"""Where nobody counts; English text on current tokenizers."""
MIDDLE: Final = b'"finish_reason":"None"'
"""What an event of the llmapi model has that is neither the last one nor an error. No text can
look like it: its quotes are escaped."""
DRAFTS: Final = b'"total_draft_tokens"'
"""What an event of the llmapi model has that tells of guessing, for the same reason."""
MIDDLES: Final = (None, "None")
"""Reasons of events that are not the last one."""


class _Reading(Reader):
    """What both readers share: decoding, errors and counting."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._decoder = sse.Decoder()
        self._prompt = len(task.prompt)
        self._max_tokens = task.sampling.max_tokens
        self._input_tokens: int | None = None
        self._output_tokens: int | None = None
        self._replies = 0
        self._left = task.sampling.most_characters  # that may still come

    def feed(self, piece: bytes) -> tuple[Event, ...]:
        try:
            events = self._decoder.feed(piece)
        except sse.Malformed as error:
            self.error = str(error)
            return (INVALID,)
        if len(events) == 1:  # as most come
            new = self._read(events[0])
            if isinstance(new, Failed):
                return (new,)
        else:
            text: list[str] = []
            for data in self._worth_reading(events):
                new = self._read(data)
                if isinstance(new, Failed):
                    return (Text("".join(text)), new) if any(text) else (new,)
                text.append(new)
            new = "".join(text)
        return self._counted(new)

    def _counted(self, new: str) -> tuple[Event, ...]:
        """Give new text, as far as there may be so much."""
        self._left -= len(new)
        if self._left < 0:
            return (Text(new[: self._left]), OVERRUN) if len(new) > -self._left else (OVERRUN,)
        return (Text(new),) if new else ()

    def end(self) -> tuple[Event, ...]:
        return (self._end() if self._decoder.whole else INVALID,)

    def _worth_reading(self, events: list[bytes]) -> list[bytes]:
        return events

    @abstractmethod
    def _read(self, data: bytes) -> str | Failed:
        """Read one event's data: the new text in it."""

    @abstractmethod
    def _end(self) -> End | Failed:
        """The body ended as it should; was the answer whole?"""

    def _decode(self, data: bytes) -> Reply | Failed:
        try:
            reply = DECODE(data)
        except NO_JSON as error:
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

    @property
    def usage(self) -> Usage:
        if self._input_tokens is not None and self._output_tokens is not None:
            return Usage(self._input_tokens, self._output_tokens)
        guess = -(-self._prompt // CHARACTERS_PER_TOKEN)
        # One reply holds at least one token.
        replies = min(self._replies, self._max_tokens)
        return Usage(self._input_tokens or guess, self._output_tokens or replies, estimated=True)


class EnsembleReader(_Reading):
    """New text in every event, counts in every event, and no reason for the end."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._logprob: float | None = None  # of all so far

    def _read(self, data: bytes) -> str | Failed:
        reply = self._decode(data)
        if isinstance(reply, Failed):
            return reply
        if isinstance(reply.cum_log_probs, float):
            self._logprob = reply.cum_log_probs
        return reply.text_output

    def _end(self) -> End | Failed:
        if not self._replies:
            return CUT
        usage = self.usage
        full = usage.output_tokens >= self._max_tokens
        return End("length" if full else "stop", usage, self._logprob)


class LlmapiReader(_Reading):
    """All text so far in every event, and a reason in the last one ("None" in the others)."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._growing = Growing()
        self._told = ""  # all text so far, unless it is known there
        self._reason: FinishReason | Literal["cut"] | None = None

    def feed(self, piece: bytes) -> tuple[Event, ...]:
        growing = self._growing
        new = growing.more(piece)
        if new is not None:
            self._replies += 1
            return self._counted(new)
        told = growing.forget()
        if told is not None:
            self._told = told
        whole = self._decoder.whole
        events = super().feed(piece)
        if whole and self._reason is None and growing.learn(piece, self._told):
            self._told = ""
        return events

    def _worth_reading(self, events: list[bytes]) -> list[bytes]:
        """Of events that came at once, the last one has all that those in the middle say.

        Unless it is an error: then the one before has it.
        """
        if len(events) <= 2:
            return events
        rest = [data for data in events[:-2] if data.find(MIDDLE) < 0]  # as in `sse`, not `in`
        self._replies += len(events) - 2 - len(rest)
        return [*rest, *events[-2:]]

    def _read(self, data: bytes) -> str | Failed:
        reply = self._decode(data)
        if isinstance(reply, Failed):
            return reply
        if reply.finish_reason not in MIDDLES:
            self._reason = _reason(str(reply.finish_reason))
        whole, told = reply.text_output, self._told
        if self._reason is None:
            whole = whole.rstrip(UNFINISHED)  # the next event may complete the character
        if not whole.startswith(told):
            if told.startswith(whole):
                return ""
            self.error = "the text changed after it was sent"
            return INVALID
        self._told = whole
        return whole[len(told) :]

    def _end(self) -> End | Failed:
        match self._reason:
            case None | "cut":
                # Without a reason something is missing, however cleanly the stream ended.
                return CUT
            case reason:
                return End(reason, self.usage)


class GuessingReader(LlmapiReader):
    """Knows, too, how many tokens were guessed, and how many of them the model accepted."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._drafts: Drafts | None = None

    def _read(self, data: bytes) -> str | Failed:
        if data.find(DRAFTS) >= 0:
            try:
                self._drafts = DECODE_DRAFTS(data)
            except NO_JSON:
                self._drafts = None  # an answer is no worse for it
        return super()._read(data)

    @property
    def usage(self) -> Usage:
        usage, drafts = super().usage, self._drafts
        if drafts is None:
            return usage
        accepted = min(drafts.total_accepted_draft_tokens, drafts.total_draft_tokens)
        written = usage.output_tokens
        if self._output_tokens is None:
            # One reply holds what one step has written: a token, and the guesses before it.
            written = min(self._replies + accepted, self._max_tokens)
        return Usage(
            usage.input_tokens,
            written,
            usage.estimated,
            drafted_tokens=drafts.total_draft_tokens,
            accepted_tokens=accepted,
        )


def _reason(word: str) -> FinishReason | Literal["cut"]:
    match word:
        case "stop" | "length":
            return word
        case _:  # "timeout", "cancelled"
            return "cut"
