"""What answers of all endpoints have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from headgate_gateway.calls.events import End, Event, Usage, Waiting

DONE: Final = b"data: [DONE]\n\n"
encode: Final = msgspec.json.encode


class Names:
    """What all bodies of one answer have in common."""

    __slots__ = ("created", "id", "model", "system_fingerprint")

    def __init__(
        self,
        id: str,  # noqa: A002 - as its answers call it
        created: int,
        model: str,
        system_fingerprint: str,
    ) -> None:
        self.id = id
        self.created = created  # s since 1970
        self.model = model  # as the client wrote it
        self.system_fingerprint = system_fingerprint  # what would answer alike: the revision


class Stream(ABC):
    """Writes the chunks of one stream."""

    __slots__ = ()

    @abstractmethod
    def opening(self) -> bytes:
        """What comes before everything else, together with it."""

    @abstractmethod
    def write(self, event: Event) -> bytes:
        """Write down what came. What has no place in this endpoint's answers is nothing."""

    @abstractmethod
    def end(self, end: End, stopped: str = "") -> bytes:
        """All that follows, in one piece. `stopped`: reason code, where it was not the model."""


class Whole(ABC):
    """Collects a plain answer."""

    __slots__ = ()

    @abstractmethod
    def add(self, event: Event) -> None: ...

    @abstractmethod
    def body(self, end: End) -> bytes: ...


class Frame:
    """Chunks of a stream with one choice. What all of them share is encoded once."""

    __slots__ = ("_include_usage", "close", "start")

    def __init__(self, names: Names, kind: str, *, include_usage: bool) -> None:
        """`include_usage`: the client wants a last chunk with the token counts."""
        fields = opened(names, kind)
        self._include_usage = include_usage
        self.close = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        """Ends a chunk behind its `choices`."""
        self.start = b"data: " + encode(fields)[:-1] + b',"choices":['
        """Begins a chunk, up to what is in `choices`."""

    def stopped(self, code: str) -> bytes:
        """What ends a chunk that says why an answer was stopped."""
        return b',"headgate":{"stopped":"%s"}%s' % (code.encode(), self.close)

    def last(self, end: End) -> bytes:
        """What follows the chunk with the finish reason."""
        if not self._include_usage:
            return DONE
        usage = encode(usage_body(end.usage))
        return b'%s],"usage":%s}\n\n%s' % (self.start, usage, DONE)


def opened(names: Names, kind: str) -> dict[str, Any]:
    """Begin a body, or a chunk of one."""
    return {
        "id": names.id,
        "object": kind,
        "created": names.created,
        "model": names.model,
        "system_fingerprint": names.system_fingerprint,
    }


def heartbeat(waiting: Waiting) -> bytes:
    r"""Write a comment: clients skip it, proxies on the way see that the connection lives.

    >>> heartbeat(Waiting("stage small"))
    b': waiting, stage small\n\n'
    """
    return f": waiting{f', {waiting.reason}' if waiting.reason else ' for the model'}\n\n".encode()


def usage_body(usage: Usage) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return body


def model_body(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "headgate"}


def model_list(names: Iterable[tuple[str, int]], may_use: Callable[[str], bool]) -> bytes:
    """Build `GET /v1/models`: the names that this tenant may use."""
    data = [model_body(name, created) for name, created in names if may_use(name)]
    return encode({"object": "list", "data": data})
