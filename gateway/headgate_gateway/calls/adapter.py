"""What a call needs from a runtime's dialect: the bytes to send, and the meaning of what comes."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from headgate_gateway.calls.events import Event, Failed, Usage
from headgate_policy.tools import Dialect

Check: TypeAlias = Callable[[Any], bool]
"""Says whether a JSON value is as it should be."""
Endpoint: TypeAlias = Literal["chat/completions", "completions", "embeddings"]


CHARACTERS_PER_TOKEN: Final = 32
"""More than the tokens of any tokenizer have on average."""
SLACK: Final = 8192
"""Characters, for answers of few tokens."""


class Sampling(Struct, frozen=True, kw_only=True):
    """How to generate. None: the model server's own default."""

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None  # 0 to 2^64 - 1
    stop: tuple[str, ...] = ()

    @property
    def most_characters(self) -> int:
        """How long an answer of `max_tokens` can be. Who writes more does not heed them."""
        return self.max_tokens * CHARACTERS_PER_TOKEN + SLACK


DEFAULT: Final = Sampling(max_tokens=1)
"""Of tasks that generate nothing."""


class Form(Struct, frozen=True, kw_only=True):
    """What a client asks of an answer's form."""

    dialect: Dialect | None = None  # of tool calls, where a runtime leaves them in the text
    offered: tuple[str, ...] = ()  # names of tools
    most: int | None = None  # calls in one answer
    said: str = ""  # how the prompt already begins the answer
    must_call: bool = False
    arguments: Mapping[str, Check]  # of strict tools, by name
    check: Check | None = None  # of the whole text, as JSON
    hold: bool  # let nothing go before it was checked
    whole: bool = False  # let nothing go before its end


class Task(Struct, frozen=True, kw_only=True):
    """What a model server is asked to do, before any dialect."""

    endpoint: Endpoint
    input_tokens: int = 0  # that the model reads; 0: nobody had to count
    prompt: str = ""  # the one text to go on with, for runtimes that know no conversations
    inputs: tuple[str, ...] = ()  # the texts to embed
    dimensions: int | None = None  # of a vector; None: as many as the model has
    sampling: Sampling = DEFAULT
    guide: tuple[str, str] | None = None  # what to generate: the kind of guide, and the guide
    form: Form | None = None  # what to make sure of
    body: bytes = b""  # the client's own, for runtimes that speak its dialect
    changed: Mapping[str, float | str] = {}  # fields of the body that are to be otherwise
    logprobs: bool = False  # how probable the answer is to be told
    sources: int = 0  # of the client's evidence, those that the model is shown: the first ones


class Reader(Protocol):
    """Turns the body of one answer with status 200 into events.

    After an `End` or a `Failed`, which is the last of a list, it is not asked again: what else
    would come does not matter, and the connection may be closed.
    """

    @property
    def error(self) -> str:
        """What the model server said went wrong: for our log, never for the client."""
        ...

    @property
    def holding(self) -> bool:
        """Whether text has come of which nothing may be given yet."""
        ...

    @property
    def usage(self) -> Usage:
        """What the answer has cost so far."""
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
        self,
        task: Task,
        *,
        call_id: str,
        host: str,
        served_model: str,
        left_ms: int,
        headers: bytes,
    ) -> bytes:
        """Build the whole HTTP request.

        Args:
            task: what to do.
            call_id: of the attempt, by which `stop` names it.
            host: address and port, as the Host header has them.
            served_model: the server's own name of the model.
            left_ms: time that is left for it; they are told, and may act on it.
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
    head = _head(path, host)
    return b"%s%scontent-length: %d\r\n\r\n%s" % (head, headers, len(body), body)


@lru_cache(maxsize=4096)
def _head(path: str, host: str) -> bytes:
    """What all requests to one pod begin with."""
    return f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n".encode()
