"""What the bodies of all endpoints have in common, and how what is wrong with one is told.

Nothing is ignored in silence: a parameter that changes the answer and that we do not act on is
refused by name, unless its value asks for what we do anyway. The types say which values these are,
so that the decoder checks them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from headgate_gateway.refusals import Code, Refusal

NO_JSON: Final = Refusal(Code.INVALID_JSON, 400, "The body is not valid JSON in UTF-8.")
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


def stray_options(asked: Generation) -> Refusal | None:
    if asked.stream_options is None or asked.stream:
        return None
    sentence = "'stream_options' is allowed only together with 'stream': true."
    return Refusal(Code.INVALID_VALUE, 400, sentence, "stream_options")


LONGEST_WORDS: Final = 128
"""Characters of a finding or of a client's own field name that an answer repeats."""
_PATH: Final = re.compile(r" - at `\$\.?(.*)`$")
_FIELD: Final = re.compile(r"(?:required|unknown) field `([^`]*)`")
_FIRST: Final = re.compile(r"[a-z_]*")
Read = TypeVar("Read", bound=Asked)


class BodyReader:
    """Reads the bodies of one endpoint.

    Args:
        narrow: parameters of which less is supported than OpenAI has: the values as JSON, or
            nothing, where it is not supported at all.
        words: what a field takes whose value the decoder calls invalid, by the end of its path.
    """

    def __init__(self, narrow: Mapping[str, str], words: Mapping[str, tuple[str, ...]]) -> None:
        self._narrow = narrow
        self._words = words

    def read(self, decode: Callable[[bytes], Read], body: bytes) -> Read | Refusal:
        try:
            asked = decode(body)
        except msgspec.ValidationError as error:
            return self._invalid(str(error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return NO_JSON
        try:
            for schema in asked.schemas:
                msgspec.json.decode(schema)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return NO_JSON
        return asked

    def _invalid(self, found: str) -> Refusal:
        """Turn the decoder's finding into ours: the field, what is wrong, what would be right.

        >>> BodyReader({}, {})._invalid("Expected `str`, got `int` - at `$.messages[0].name`").param
        'messages[0].name'
        """
        path = _PATH.search(found)
        where = path.group(1) if path is not None else ""
        what = _PATH.sub("", found)
        first = _FIRST.match(where)
        if first is not None and first.group() in self._narrow:
            return unsupported(first.group(), self._narrow[first.group()])
        field = _FIELD.search(what)
        if field is None:
            what = what[:LONGEST_WORDS]
            if what.startswith("Invalid") and (words := self._words_for(where)):
                what += f"; use {' or '.join(words)}"
            named = f"'{where}': {what}." if where else f"{what}."
            return Refusal(Code.INVALID_VALUE, 400, named, where or None)
        name = field.group(1)[:LONGEST_WORDS]
        param = f"{where}.{name}" if where else name
        if "unknown" in what:
            return Refusal(Code.UNKNOWN_PARAMETER, 400, f"Unknown parameter: '{param}'.", param)
        return missing(param)

    def _words_for(self, where: str) -> tuple[str, ...]:
        return next((words for end, words in self._words.items() if end in where), ())


def missing(param: str) -> Refusal:
    return Refusal(Code.MISSING_PARAMETER, 400, f"Missing required parameter: '{param}'.", param)


def unsupported(param: str, only: str = "") -> Refusal:
    """Refuse a parameter, or all values of it but `only`."""
    if only:
        sentence = f"'{param}' is supported only as {only}."
        return Refusal(Code.UNSUPPORTED_VALUE, 400, sentence, param)
    return Refusal(
        Code.UNSUPPORTED_PARAMETER, 400, f"'{param}' is not supported by this model.", param
    )
