"""How the bodies of all endpoints are read, and how what is wrong with one is told."""

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from headgate_gateway.edge.asked import Asked, Generation
from headgate_gateway.refusals import Code, Refusal

NO_JSON: Final = Refusal(Code.INVALID_JSON, 400, "The body is not valid JSON in UTF-8.")
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


def stray_options(asked: Generation) -> Refusal | None:
    if asked.stream_options is None or asked.stream:
        return None
    sentence = "'stream_options' is allowed only together with 'stream': true."
    return Refusal(Code.INVALID_VALUE, 400, sentence, "stream_options")


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
