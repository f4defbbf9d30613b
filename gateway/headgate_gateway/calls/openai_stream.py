"""Streams of chat completions and completions, as an OpenAI server writes them."""

from typing import Any, Final

import msgspec

from headgate_gateway.calls import sse
from headgate_gateway.calls.adapter import Reader, Task
from headgate_gateway.calls.events import (
    MOST_KEPT,
    NO_JSON,
    OVERHEAD,
    End,
    Event,
    Failed,
    FinishReason,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)
from headgate_gateway.calls.failures import CUT, INVALID, INVALID_OUTPUT, OVERRUN, failure
from headgate_gateway.calls.openai_chunk import DECODE, CallDelta, Choice, Counts
from headgate_gateway.calls.toolcalls import new_id

DONE: Final = b"[DONE]"
REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}
"""With any other reason, or none, something is missing, however cleanly the stream ended."""


MOST_CALLS: Final = 1024
"""Of tools, in one answer."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, Any]).decode


class _Growing:
    """A call of which parts have come."""

    def __init__(self, id: str) -> None:  # noqa: A002
        self.id = id
        self.name = ""
        self.arguments: list[str] = []


class OpenAIReader(Reader):
    """See `Reader`. Calls of tools are put together and given whole."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._decoder = sse.Decoder()
        form = task.form
        self._most = form.most if form is not None else None
        self._offered = frozenset(form.offered) if form is not None else frozenset()
        self._reason: str | None = None
        self._calls: dict[int, _Growing] = {}  # the last one may still grow
        self._given = 0  # of them
        self._kept = 0  # bytes of them, roughly
        self._left = task.sampling.most_characters  # that may still come
        self._chunks = 0
        self._told: Counts | None = None

    @property
    def usage(self) -> Usage:
        told = self._told
        if told is None:
            return Usage(0, self._chunks, estimated=True)
        read, made = told.prompt_tokens_details, told.completion_tokens_details
        return Usage(
            told.prompt_tokens,
            told.completion_tokens or 0,
            cached_tokens=read.cached_tokens if read is not None else None,
            reasoning_tokens=made.reasoning_tokens if made is not None else None,
        )

    def feed(self, piece: bytes) -> tuple[Event, ...]:
        events: list[Event] = []
        try:
            for data in self._decoder.feed(piece):
                self._read(data, events)
                if events and isinstance(events[-1], (End, Failed)):
                    break
        except sse.Malformed as error:
            self.error = str(error)
            events.append(INVALID)
        return tuple(events)

    def end(self) -> tuple[Event, ...]:
        if not self._decoder.whole:
            return (INVALID,)
        reason = REASONS.get(self._reason or "")
        if reason is None:
            return (CUT,)
        events: list[Event] = []
        self._give(events, len(self._calls), cut=reason == "length")
        if events and isinstance(events[-1], Failed):
            return tuple(events)
        if self._given and reason == "stop":
            reason = "tool_calls"
        return (*events, End(reason, self.usage))

    def _read(self, data: bytes, events: list[Event]) -> None:
        """Read one event's data."""
        if data.strip() == DONE:
            return
        try:
            chunk = DECODE(data)
        except NO_JSON as error:
            self.error = str(error)
            events.append(INVALID)
            return
        if chunk.error is not None or chunk.object == "error":
            self.error = chunk.message or str(chunk.error)
            events.append(failure(self.error))
            return
        if chunk.usage is not None:
            self._told = chunk.usage
        for choice in chunk.choices[:1]:
            self._choose(choice, events)

    def _choose(self, choice: Choice, events: list[Event]) -> None:
        self._chunks += 1
        self._reason = choice.finish_reason or self._reason
        delta = choice.delta
        text = choice.text if delta is None else delta.content
        thought = None if delta is None else delta.reasoning_content or delta.reasoning
        self._left -= 1 + len(text or "") + len(thought or "")  # empty ones do not go on either
        if self._left < 0:
            events.append(OVERRUN)
            return
        if thought:
            _add(events, Reasoning(thought))
        if text:
            logprobs = choice.logprobs.content if choice.logprobs is not None else None
            _add(events, Text(text, tuple(logprobs or ())))
        if delta is not None and delta.tool_calls:
            for part in delta.tool_calls:
                self._grow(part)
            if self._kept > MOST_KEPT or len(self._calls) > MOST_CALLS:
                self.error = "calls of tools without end"
                events.append(INVALID)
                return
            self._give(events, len(self._calls) - 1)
            if self._given == self._most:
                events.append(End("tool_calls", self.usage))

    def _grow(self, part: CallDelta) -> None:
        call = self._calls.get(part.index)
        if call is None:
            call = self._calls[part.index] = _Growing(part.id or new_id())
        if part.function is not None:
            call.name = part.function.name or call.name
            arguments = part.function.arguments or ""
            call.arguments.append(arguments)
            self._left -= len(arguments)
            self._kept += OVERHEAD + len(arguments)

    def _give(self, events: list[Event], until: int, *, cut: bool = False) -> None:
        """Give the calls that are whole, the first `until`. One that a limit cut is left out."""
        if self._most is not None:
            until = min(until, self._most)
        for call in list(self._calls.values())[self._given : until]:
            arguments = "".join(call.arguments) or "{}"
            wrong = self._wrong(call.name, arguments)
            if wrong is not None:
                if not cut:
                    self.error = wrong
                    events.append(INVALID_OUTPUT)
                return
            events.append(ToolCall(self._given, call.id, call.name, arguments))
            self._given += 1

    def _wrong(self, name: str, arguments: str) -> str | None:
        if name not in self._offered:
            return "a call of a tool that was not offered"
        try:
            _OBJECT(arguments)
        except NO_JSON as error:
            return f"arguments of a tool call: {error}"
        return None


def _add(events: list[Event], event: Text | Reasoning) -> None:
    """Add text to what is there: what came at once is one event."""
    match events[-1] if events else None, event:
        case Text(before, logprobs), Text(text, more):
            events[-1] = Text(before + text, logprobs + more)
        case Reasoning(before), Reasoning(text):
            events[-1] = Reasoning(before + text)
        case _:
            events.append(event)
