"""Answers of `/v1/completions`: chunks of a stream, or one whole object."""

from typing import Final

from headgate_gateway.calls.events import End, Event, Text
from headgate_gateway.edge.asked import Asked
from headgate_gateway.streaming.bodies import (
    Frame,
    Names,
    Stream,
    Whole,
    encode,
    opened,
    usage_body,
)

KIND: Final = "text_completion"


class CompletionStream(Stream):
    """See `Stream`."""

    __slots__ = ("_frame", "_open", "_text")

    def __init__(self, names: Names, asked: Asked) -> None:
        self._frame = frame = Frame(names, KIND, include_usage=asked.include_usage)
        self._text = frame.start + b'{"index":0,"text":'
        self._open = b',"logprobs":null,"finish_reason":null}]' + frame.close

    def opening(self) -> bytes:
        return b""

    def write(self, event: Event) -> bytes:
        if isinstance(event, Text):
            return b"%s%s%s" % (self._text, encode(event.text), self._open)
        return b""

    def end(self, end: End, stopped: str = "") -> bytes:
        frame, reason = self._frame, end.finish_reason.encode()
        close = frame.stopped(stopped) if stopped else frame.close
        chunk = b'%s"","logprobs":null,"finish_reason":"%s"}]%s'
        return chunk % (self._text, reason, close) + frame.last(end)


class CompletionWhole(Whole):
    """See `Whole`."""

    __slots__ = ("_names", "_texts")

    def __init__(self, names: Names, asked: Asked) -> None:
        self._names = names
        self._texts: list[str] = []

    def add(self, event: Event) -> None:
        if isinstance(event, Text):
            self._texts.append(event.text)

    def body(self, end: End) -> bytes:
        choice = {
            "index": 0,
            "text": "".join(self._texts),
            "logprobs": None,
            "finish_reason": end.finish_reason,
        }
        return encode(
            {
                **opened(self._names, KIND),
                "choices": [choice],
                "usage": usage_body(end.usage),
            }
        )
