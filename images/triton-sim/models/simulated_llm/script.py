"""What a test asks of the simulator, inside the prompt: `[[sim: word argument; word argument]]`.

The last markup of a prompt counts, so an earlier turn of a conversation does not. One with
`variant NAME` is for that variant alone: for others it is not there.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

_OPENING = "[[sim:"
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[a-z_]+")
_NAME = re.compile(r"[a-z0-9-]+")
_NUMBER = re.compile(r"\d+\b")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Departures from ordinary behaviour. The default is none."""

    text: str | None = None
    """Say exactly this (still cut by stop words and the token limit)."""
    tokens: int | None = None
    """Write prose of exactly this many tokens."""
    wait: float = 0.0  # s before the first token
    slow: float = 0.0  # s between steps, at least
    accept: int | None = None  # percent of the guessed tokens that are right
    fail_after: int | None = None  # tokens, then an error
    silent_after: int | None = None  # tokens, then nothing, and no end
    die_after: int | None = None  # tokens, then the model's process is killed
    variant: str | None = None  # whom it is for; None: everybody


def parse(prompt: str, variant: str = "") -> Script:
    """Read the last markup of `prompt` that is for `variant`.

    Raises:
        ValueError: the markup has an unknown word or a wrong argument; the message says which.

    >>> Script(tokens=40, slow=0.2) == parse("Tell me. [[sim: tokens 40; slow 200ms]]")
    True
    """
    start = prompt.rfind(_OPENING)
    while start >= 0:
        script = _read(prompt, start)
        if script.variant in {None, variant}:
            return script
        start = prompt.rfind(_OPENING, 0, start)
    return Script()


def _read(prompt: str, start: int) -> Script:
    asked: dict[str, Any] = {}
    echo, at = False, start + len(_OPENING)
    while True:
        word, at = _match(_WORD, prompt, at, "a word such as `json`")
        at = _skip(prompt, at)
        match word:
            case "json" | "say" | "tool_call":
                value, at = _value(prompt, at, word)
                asked["text"] = _spoken(word, value)
            case "wait" | "slow":
                text, at = _match(_DURATION, prompt, at, f"a duration such as 200ms after `{word}`")
                asked[word] = _seconds(text)
            case "tokens" | "accept" | "fail_after" | "silent_after" | "die_after":
                text, at = _match(_NUMBER, prompt, at, f"a number after `{word}`")
                asked[word] = int(text)
            case "variant":
                asked[word], at = _match(_NAME, prompt, at, "a name after `variant`")
            case "silent" | "die":
                asked[f"{word}_after"] = 0
            case "echo":
                echo = True
            case _:
                raise ValueError(f"simulator script: there is no word `{word}`")
        at = _skip(prompt, at)
        if prompt.startswith("]]", at):
            break
        if not prompt.startswith(";", at):
            raise ValueError(f"simulator script: expected `;` or `]]` after `{word}`")
        at += 1
    if echo:
        asked["text"] = prompt[:start] + prompt[at + 2 :]
    return Script(**asked)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _match(pattern: re.Pattern[str], text: str, at: int, wanted: str) -> tuple[str, int]:
    found = pattern.match(text, _skip(text, at))
    if not found:
        raise ValueError(f"simulator script: expected {wanted}")
    return found.group(), found.end()


def _value(text: str, at: int, word: str) -> tuple[Any, int]:
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except ValueError as error:
        raise ValueError(f"simulator script: expected JSON after `{word}`: {error}") from error


def _spoken(word: str, value: Any) -> str:
    if word == "say":
        return str(value)
    written = json.dumps(value, ensure_ascii=False)
    return written if word == "json" else f"<tool_call>\n{written}\n</tool_call>"


def _seconds(text: str) -> float:
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1])
