"""Answers as OpenAI's clients read them: chunks of a stream, or one whole object."""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from headgate_gateway.calls.events import End, Usage

DONE: Final = b"data: [DONE]\n\n"
HEARTBEAT: Final = b": waiting\n\n"
"""A comment: clients skip it, proxies on the way see that the connection lives."""

_encode: Final = msgspec.json.encode


def usage_body(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


class Names(NamedTuple):
    """What all bodies of one answer have in common."""

    id: str
    created: int  # s since 1970
    model: str  # as the client wrote it
    system_fingerprint: str  # what would answer alike: the revision


class Chunks:
    """Writes the chunks of one stream. What all of them share is encoded once."""

    def __init__(self, names: Names, *, include_usage: bool) -> None:
        """`include_usage`: the client wants a last chunk with the token counts."""
        fields = {"id": names.id, "object": "chat.completion.chunk"} | names._asdict()
        self._include_usage = include_usage
        usage = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        # {"id":...,"choices":[{"index":0,"delta": | ... | ,"finish_reason":...}]}
        self._start = b"data: " + _encode(fields)[:-1] + b',"choices":['
        self._delta = self._start + b'{"index":0,"delta":'
        self._open = b',"logprobs":null,"finish_reason":null}]' + usage
        self._finish = b',"logprobs":null,"finish_reason":"%s"}]' + usage

    def role(self) -> bytes:
        """The first chunk."""
        return b'%s{"role":"assistant","content":"","refusal":null}%s' % (self._delta, self._open)

    def text(self, text: str) -> bytes:
        return b'%s{"content":%s}%s' % (self._delta, _encode(text), self._open)

    def end(self, end: End) -> bytes:
        """All that follows the text, in one piece."""
        finish = self._delta + b"{}" + self._finish % end.finish_reason.encode()
        if not self._include_usage:
            return finish + DONE
        return b'%s%s],"usage":%s}\n\n%s' % (
            finish,
            self._start,
            _encode(usage_body(end.usage)),
            DONE,
        )


def completion(names: Names, text: str, end: End) -> bytes:
    """Build the body of a plain answer."""
    return _encode(
        {
            "id": names.id,
            "object": "chat.completion",
            **names._asdict(),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": end.finish_reason,
                }
            ],
            "usage": usage_body(end.usage),
        }
    )


def model_body(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "headgate"}


def model_list(names: Iterable[tuple[str, int]], may_use: Callable[[str], bool]) -> bytes:
    """Build `GET /v1/models`: the names that this tenant may use."""
    data = [model_body(name, created) for name, created in names if may_use(name)]
    return _encode({"object": "list", "data": data})
