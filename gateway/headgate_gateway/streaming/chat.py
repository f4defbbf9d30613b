"""Answers of `/v1/chat/completions`: chunks of a stream, or one whole object."""

from typing import Any, Final

import msgspec

from headgate_gateway.calls.events import End, Event, Reasoning, Text, ToolCall
from headgate_gateway.edge.asked import Asked
from headgate_gateway.streaming.bodies import Frame, Names, Stream, Whole, encode, usage_body

_DELTA: Final = b'{"index":0,"delta":{'
_OPEN: Final = b'},"logprobs":null,"finish_reason":null}]'


class ChatStream(Stream):
    """See `Stream`."""

    __slots__ = ("_before", "_behind", "_frame")

    def __init__(self, names: Names, asked: Asked) -> None:
        kind, include_usage = "chat.completion.chunk", asked.include_usage
        self._frame = frame = Frame(names, kind, include_usage=include_usage)
        # What stands around text, as it does in nearly all chunks.
        self._before = b'%s%s"content":' % (frame.start, _DELTA)
        self._behind = b"%s%s" % (_OPEN, frame.close)

    def opening(self) -> bytes:
        return self._chunk(b'"role":"assistant","content":"","refusal":null')

    def write(self, event: Event) -> bytes:
        if isinstance(event, Text):  # as nearly all are
            if event.logprobs:
                return self._with_logprobs(event)
            return b"%s%s%s" % (self._before, encode(event.text), self._behind)
        match event:
            case Reasoning(text):
                return self._chunk(b'"reasoning_content":%s' % encode(text))
            case ToolCall(index):
                return self._chunk(b'"tool_calls":[%s]' % encode({"index": index} | _call(event)))
            case _:
                return b""

    def end(self, end: End, stopped: str = "") -> bytes:
        frame, reason = self._frame, end.finish_reason.encode()
        close = frame.stopped(stopped) if stopped else frame.close
        chunk = b'%s%s},"logprobs":null,"finish_reason":"%s"}]%s'
        return chunk % (frame.start, _DELTA, reason, close) + frame.last(end)

    def _chunk(self, delta: bytes) -> bytes:
        """Write a chunk that says `delta`: the members of an object."""
        frame = self._frame
        return b"%s%s%s%s%s" % (frame.start, _DELTA, delta, _OPEN, frame.close)

    def _with_logprobs(self, text: Text) -> bytes:
        told = encode(_logprobs(text.logprobs))
        close = b'},"logprobs":%s,"finish_reason":null}]%s' % (told, self._frame.close)
        return b"%s%s%s" % (self._before, encode(text.text), close)


_COMPLETION: Final = (
    b'{"id":"%s","object":"chat.completion","created":%d,"model":%s,"system_fingerprint":%s,'
    b'"choices":[{"index":0,"message":%s,"logprobs":%s,"finish_reason":"%s"}],"usage":%s}'
)


class ChatWhole(Whole):
    """See `Whole`."""

    __slots__ = ("_calls", "_logprobs", "_names", "_reasoning", "_texts")

    def __init__(self, names: Names, asked: Asked) -> None:
        self._names = names
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[msgspec.Raw] = []
        self._calls: list[dict[str, Any]] = []

    def add(self, event: Event) -> None:
        if isinstance(event, Text):  # as nearly all are
            self._texts.append(event.text)
            self._logprobs += event.logprobs
            return
        match event:
            case Reasoning(text):
                self._reasoning.append(text)
            case ToolCall():
                self._calls.append(_call(event))
            case _:
                pass

    def body(self, end: End) -> bytes:
        # An answer that only calls tools says nothing, which is not the same as saying "".
        content = "".join(self._texts) if self._texts or not self._calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = self._calls
        names = self._names
        return _COMPLETION % (
            names.id.encode(),
            names.created,
            encode(names.model),
            encode(names.system_fingerprint),
            encode(message),
            encode(_logprobs(self._logprobs)) if self._logprobs else b"null",
            end.finish_reason.encode(),
            encode(usage_body(end.usage)),
        )


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _logprobs(tokens: list[msgspec.Raw] | tuple[msgspec.Raw, ...]) -> dict[str, Any]:
    return {"content": tokens, "refusal": None}
