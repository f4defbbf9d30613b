"""What a call needs from a runtime's dialect: the bytes to send, and the meaning of what comes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, final

from headgate_gateway.calls.events import Event, Failed, Usage
from headgate_gateway.values import Value
from headgate_policy.tools import Dialect

Check: TypeAlias = Callable[[Any], bool]
"""Says whether a JSON value is as it should be."""
Endpoint: TypeAlias = Literal["chat/completions", "completions", "embeddings"]


CHARACTERS_PER_TOKEN: Final = 32
"""More than the tokens of any tokenizer have on average."""
SLACK: Final = 8192
"""Characters, for answers of few tokens."""


@final
class Sampling(Value):
    """How to generate. None: the model server's own default."""

    __match_args__: Final = (
        "max_tokens",
        "temperature",
        "top_p",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "stop",
    )

    def __init__(
        self,
        *,
        max_tokens: int,
        temperature: float | None = None,
        top_p: float | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        seed: int | None = None,
        stop: tuple[str, ...] = (),
    ) -> None:
        self.max_tokens: Final = max_tokens
        self.temperature: Final = temperature
        self.top_p: Final = top_p
        self.frequency_penalty: Final = frequency_penalty
        self.presence_penalty: Final = presence_penalty
        self.seed: Final = seed  # 0 to 2^64 - 1
        self.stop: Final = stop

    @property
    def most_characters(self) -> int:
        """How long an answer of `max_tokens` can be. Who writes more does not heed them."""
        return self.max_tokens * CHARACTERS_PER_TOKEN + SLACK


DEFAULT: Final = Sampling(max_tokens=1)
"""Of tasks that generate nothing."""
UNCHANGED: Final[Mapping[str, float | str]] = {}


@final
class Form(Value):
    """What a client asks of an answer's form."""

    __match_args__: Final = (
        "dialect",
        "offered",
        "most",
        "said",
        "must_call",
        "arguments",
        "check",
        "hold",
        "whole",
    )

    def __init__(
        self,
        *,
        dialect: Dialect | None = None,
        offered: tuple[str, ...] = (),
        most: int | None = None,
        said: str = "",
        must_call: bool = False,
        arguments: Mapping[str, Check],
        check: Check | None = None,
        hold: bool,
        whole: bool = False,
    ) -> None:
        self.dialect: Final = dialect  # of tool calls, where a runtime leaves them in the text
        self.offered: Final = offered  # names of tools
        self.most: Final = most  # calls in one answer
        self.said: Final = said  # how the prompt already begins the answer
        self.must_call: Final = must_call
        self.arguments: Final = arguments  # of strict tools, by name
        self.check: Final = check  # of the whole text, as JSON
        self.hold: Final = hold  # let nothing go before it was checked
        self.whole: Final = whole  # let nothing go before its end


@final
class Task(Value):
    """What a model server is asked to do, before any dialect."""

    __match_args__: Final = (
        "endpoint",
        "input_tokens",
        "prompt",
        "inputs",
        "dimensions",
        "sampling",
        "guide",
        "form",
        "body",
        "changed",
        "logprobs",
        "sources",
    )

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        input_tokens: int = 0,
        prompt: str = "",
        inputs: tuple[str, ...] = (),
        dimensions: int | None = None,
        sampling: Sampling = DEFAULT,
        guide: tuple[str, str] | None = None,
        form: Form | None = None,
        body: bytes = b"",
        changed: Mapping[str, float | str] = UNCHANGED,
        logprobs: bool = False,
        sources: int = 0,
    ) -> None:
        self.endpoint: Final = endpoint
        self.input_tokens: Final = input_tokens  # that the model reads; 0: nobody had to count
        self.prompt: Final = prompt
        """The one text to go on with, for runtimes that know no conversations."""
        self.inputs: Final = inputs  # the texts to embed
        self.dimensions: Final = dimensions  # of a vector; None: as many as the model has
        self.sampling: Final = sampling
        self.guide: Final = guide  # what to generate: the kind of guide, and the guide
        self.form: Final = form  # what to make sure of
        self.body: Final = body  # the client's own, for runtimes that speak its dialect
        self.changed: Final = changed  # fields of the body that are to be otherwise
        self.logprobs: Final = logprobs  # how probable the answer is to be told
        self.sources: Final = sources
        """Of the client's evidence, those that the model is shown: the first ones."""


class Reader(ABC):
    """Turns the body of one answer with status 200 into events.

    After an `End` or a `Failed`, which is the last of a list, it is not asked again: what else
    would come does not matter, and the connection may be closed.
    """

    def __init__(self) -> None:
        self.error = ""
        """What the model server said went wrong: for our log, never for the client."""
        self.holding = False
        """Whether text has come of which nothing may be given yet."""

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """What the answer has cost so far."""

    @abstractmethod
    def feed(self, piece: bytes) -> tuple[Event, ...]:
        """Take a piece of the body, cut anywhere. Text that came at once is one `Text`."""

    @abstractmethod
    def end(self) -> tuple[Event, ...]:
        """The body ended as it should. The last of the events is an `End` or a `Failed`."""


class Adapter(ABC):
    """One runtime's dialect."""

    @abstractmethod
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

    @abstractmethod
    def stop(self, *, call_id: str, host: str, served_model: str) -> bytes | None:
        """Build the request that stops one whose answer has not begun.

        Its own answer does not matter. None: the server sees for itself that the caller has gone.
        """

    @abstractmethod
    def reader(self, task: Task) -> Reader:
        """Make who reads the answer."""

    @abstractmethod
    def failure(self, said: str, status: int) -> Failed:
        """Tell what an answer with another status than 200 means for the client."""


def post(path: str, host: str, headers: bytes, body: bytes) -> bytes:
    """Build a request that carries JSON."""
    head = _head(path, host)
    return b"%s%scontent-length: %d\r\n\r\n%s" % (head, headers, len(body), body)


@lru_cache(maxsize=4096)
def _head(path: str, host: str) -> bytes:
    """What all requests to one pod begin with."""
    return f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n".encode()
