"""Where in a text the reasoning ends and calls of tools stand: what the server's parsers find.

The whole text is known before it is sent, so this looks at it once, and streaming is to ask which
parts lie between two places.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

CALL_OPENED: Final = "<tool_call>"
CALL_CLOSED: Final = "</tool_call>"
_THOUGHT: Final = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)
_CALL: Final = re.compile(rf"{CALL_OPENED}\s*(.*?)\s*(?:{CALL_CLOSED}\s*|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Words:
    """Text, from one index of the whole to another."""

    kind: Literal["content", "reasoning"]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is whole once the text has come to `end`."""

    end: int
    index: int
    name: str
    arguments: str


Part: TypeAlias = Words | Call


def parts(text: str, *, reasoning: bool, tools: bool) -> tuple[Part, ...]:
    """Find the parts of `text`, in its order. A call that was cut off belongs to none.

    >>> parts('<think>Hm.</think>Yes', reasoning=True, tools=False)
    (Words(kind='reasoning', start=7, end=10), Words(kind='content', start=18, end=21))
    """
    found: list[Part] = []
    at = 0
    if reasoning and (thought := _THOUGHT.match(text)):
        found.append(Words("reasoning", *thought.span(1)))
        at = thought.end()
    calls = 0
    for match in _CALL.finditer(text, at) if tools else ():
        if CALL_CLOSED not in match.group():
            return (*found, *_words(at, match.start()))
        if call := _call(match, calls):
            found += [*_words(at, match.start()), call]
            at = match.end()
            calls += 1
    return (*found, *_words(at, len(text)))


def between(found: tuple[Part, ...], start: int, end: int) -> tuple[Part, ...]:
    """Take what the text from `start` to `end` adds."""
    added: list[Part] = []
    for part in found:
        if isinstance(part, Call):
            if start < part.end <= end:
                added.append(part)
        elif (first := max(start, part.start)) < (last := min(end, part.end)):
            added.append(Words(part.kind, first, last))
    return tuple(added)


def _words(start: int, end: int) -> Iterator[Words]:
    if start < end:
        yield Words("content", start, end)


def _call(match: re.Match[str], index: int) -> Call | None:
    try:
        said = json.loads(match.group(1))
        return Call(match.end(), index, said["name"], json.dumps(said.get("arguments", {})))
    except (ValueError, KeyError, TypeError):
        return None
