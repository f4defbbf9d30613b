"""What a call needs from a runtime's dialect: the bytes to send, and the meaning of what comes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from headgate_gateway.calls.events import Event, Failed

Endpoint: TypeAlias = Literal["chat/completions", "completions", "embeddings"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a model server is asked to do, before any dialect."""

    endpoint: Endpoint
    prompt: str = ""  # the one text to go on with, for runtimes that know no conversations
    inputs: tuple[str, ...] = ()  # the texts to embed
    sampling: Sampling
    body: bytes = b""  # the client's own, for runtimes that speak its dialect


class Reader(Protocol):
    """Turns the body of one answer with status 200 into events.

    After an `End` or a `Failed`, which is the last of a list, it is not asked again: what else
    would come does not matter, and the connection may be closed.
    """

    @property
    def error(self) -> str:
        """What the model server said went wrong: for our log, never for the client."""
        ...

    def feed(self, piece: bytes) -> Sequence[Event]:
        """Take a piece of the body, cut anywhere. Text that came at once is one `Text`."""
        ...

    def end(self) -> Sequence[Event]:
        """The body ended as it should. The last of the events is an `End` or a `Failed`."""
        ...


class Adapter(Protocol):
    """One runtime's dialect."""

    def request(
        self, task: Task, *, call_id: str, host: str, served_model: str, headers: bytes
    ) -> bytes:
        """Build the whole HTTP request.

        Args:
            task: what to do.
            call_id: of the attempt, by which `stop` names it.
            host: address and port, as the Host header has them.
            served_model: the server's own name of the model.
            headers: lines to pass on, each with its line end.
        """
        ...

    def stop(self, *, call_id: str, host: str, served_model: str) -> bytes | None:
        """Build the request that stops one whose answer has not begun.

        Its own answer does not matter. None: the server sees for itself that the caller has gone.
        """
        ...

    def reader(self, task: Task) -> Reader: ...

    def failure(self, said: str, status: int) -> Failed:
        """Tell what an answer with another status than 200 means for the client."""
        ...


def post(path: str, host: str, headers: bytes, body: bytes) -> bytes:
    """Build a request that carries JSON."""
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    return b"%s%scontent-length: %d\r\n\r\n%s" % (head.encode(), headers, len(body), body)
