"""What the bodies of all endpoints have in common.

Nothing is ignored in silence: a parameter that changes the answer and that we do not act on is
refused by name, unless its value asks for what we do anyway. The types say which values these are,
so that the decoder checks them.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Raw, Struct

Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
Tokens: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
StopWord: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class Asked(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    # A label of the caller's own: nothing depends on it.
    user: str | None = None

    @property
    def streams(self) -> bool:
        """Whether the answer comes as a stream."""
        return False

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return False

    @property
    def limit(self) -> tuple[str, int] | None:
        """The most tokens to generate, and the parameter that says so."""
        return None

    @property
    def texts(self) -> list[str]:
        """Everything in it that a person or a tool wrote."""
        raise NotImplementedError

    @property
    def schemas(self) -> Sequence[Raw]:
        """JSON schemas in it. The decoder has only skipped them."""
        return ()


class StreamOptions(Struct, forbid_unknown_fields=True, gc=False):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Generation(Asked, kw_only=True):
    """Whatever asks for text."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopWord | Annotated[list[StopWord], Meta(max_length=4)] | None = None
    n: Literal[1] | None = None
    # Only some runtimes have it.
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None

    @property
    def streams(self) -> bool:
        return self.stream is True

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage is True

    @property
    def limit(self) -> tuple[str, int] | None:
        return None if self.max_tokens is None else ("max_tokens", self.max_tokens)

    @property
    def stop_words(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def special(self) -> str | None:
        """Name a parameter that only an OpenAI server can act on, if there is one."""
        return "logit_bias" if self.logit_bias else None
