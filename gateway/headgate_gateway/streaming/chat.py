"""Answers of `/v1/chat/completions`: chunks of a stream, or one whole object."""

from typing import Any, Final

import msgspec

from headgate_gateway.calls.events import End, Event, Reasoning, Text, ToolCall
from headgate_gateway.edge.asked import Asked
from headgate_gateway.streaming.bodies import Frame, Names, encode, usage_body


class ChatStream:
    """See `Stream`."""

    def __init__(self, names: Names, asked: Asked) -> None:
        self._frame = frame = Frame(
            names, "chat.completion.chunk", include_usage=asked.include_usage
        )
        # {"id":...,"choices":[{"index":0,"delta": | ... | ,"finish_reason":...}]}
        self._delta = frame.start + b'{"index":0,"delta":'
        self._open = b',"logprobs":null,"finish_reason":null}]' + frame.close
        # The same around text.
        self._before, self._behind = self._delta + b'{"content":', b"}" + self._open

    def opening(self) -> bytes:
        return b'%s{"role":"assistant","content":"","refusal":null}%s' % (self._delta, self._open)

    def write(self, event: Event) -> bytes:
        if isinstance(event, Text):  # as nearly all are
            if event.logprobs:
                return self._with_logprobs(event)
            return self._before + encode(event.text) + self._behind
        match event:
            case Reasoning(text):
                return b'%s{"reasoning_content":%s}%s' % (self._delta, encode(text), self._open)
            case ToolCall(index):
                delta = {"tool_calls": [{"index": index} | _call(event)]}
                return b"%s%s%s" % (self._delta, encode(delta), self._open)
            case _:
                return b""

    def end(self, end: End, stopped: str = "") -> bytes:
        frame, reason = self._frame, end.finish_reason.encode()
        close = frame.stopped(stopped) if stopped else frame.close
        chunk = b'%s{},"logprobs":null,"finish_reason":"%s"}]%s'
        return chunk % (self._delta, reason, close) + frame.last(end)

    def _with_logprobs(self, text: Text) -> bytes:
        told = encode(_logprobs(text.logprobs))
        close = b',"logprobs":%s,"finish_reason":null}]%s' % (told, self._frame.close)
        return b'%s{"content":%s}%s' % (self._delta, encode(text.text), close)


_COMPLETION: Final = (
    b'{"id":"%s","object":"chat.completion","created":%d,"model":%s,"system_fingerprint":%s,'
    b'"choices":[{"index":0,"message":%s,"logprobs":%s,"finish_reason":"%s"}],"usage":%s}'
)


class ChatWhole:
    """See `Whole`."""

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
