"""Tool calls in an answer's text: found in the marks of the model's dialect, however it is cut.

What is not plainly a call of a tool that the client offered stays text: broken JSON, a name that
nobody offered, a call that the end of the answer cut off. No gate behind this one has to guess.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from headgate_gateway.calls.events import NO_JSON, End, Event, Text, ToolCall, Usage
from headgate_gateway.calls.written_calls import DECODE_CALL, DECODE_CALLS, WrittenCall
from headgate_policy.tools import Dialect

_STRUCTURE: Final = re.compile(r'["{}\[\]]')
_IN_STRING: Final = re.compile(r'["\\]')
_GLUE: Final = " \t\r\n;,"
"""What models put between two calls."""

LONGEST: Final = 256 * 1024
"""Characters of one call. What goes on for longer is a text."""


_STRING: Final = msgspec.json.Decoder(str).decode
_OBJECT: Final = msgspec.json.Decoder(dict).decode


class _JsonEnd:
    """Finds where an object or a list ends in a text that grows. It looks at nothing twice."""

    def __init__(self, start: int) -> None:
        self._at = start
        self._depth = 0
        self._string = False

    def find(self, text: str) -> int | None:
        """Return the place behind the end. None: it is yet to come."""
        while True:
            found = (_IN_STRING if self._string else _STRUCTURE).search(text, self._at)
            if found is None:
                self._at = max(self._at, len(text))
                return None
            mark, self._at = found.group(), found.end()
            if mark == "\\":
                self._at += 1  # whatever it is, it does not end the string
            elif mark == '"':
                self._string = not self._string
            else:
                self._depth += 1 if mark in "{[" else -1
                if self._depth == 0:
                    return self._at


class _Place(Enum):
    TEXT = auto()
    CALL = auto()  # behind the mark that begins one
    BEHIND = auto()  # behind the JSON of one, where the mark that ends it may follow


class ToolCalls:
    """A filter of events: text goes in, text and tool calls come out.

    Args:
        dialect: how the model writes calls.
        offered: names of the tools that the client offered.
        usage: what the answer has cost so far, for one that is ended here.
        most: calls after which the answer is over.
        said: how the prompt already begins the answer.
    """

    def __init__(
        self,
        dialect: Dialect,
        offered: Iterable[str],
        usage: Callable[[], Usage],
        *,
        most: int | None = None,
        said: str = "",
    ) -> None:
        self._dialect = dialect
        self._offered = frozenset(offered)
        self._usage = usage
        self._most = most
        self._calls = 0
        self._place = _Place.TEXT
        self._rest = said  # not decided yet
        self._bare = dialect.bare  # JSON that begins here is a call
        self._json = _JsonEnd(0)
        self._start = 0  # of the JSON, in `_rest`

    def take(self, event: Event) -> Sequence[Event]:
        match event:
            case Text(text):
                return self._feed(text)
            case End(reason):
                rest = self._finish()
                if self._calls and reason == "stop":
                    event = End("tool_calls", event.usage, event.logprob)
                return [*rest, event]
            case _:
                return (event,)

    def _feed(self, text: str) -> list[Event]:
        self._rest += text
        events: list[Event] = []
        while self._step(events):
            if self._calls == self._most:
                events.append(End("tool_calls", self._usage()))
                break
        return events

    def _finish(self) -> list[Event]:
        glue = self._calls > 0 and not self._rest.strip(_GLUE)
        if glue or self._place is _Place.BEHIND or not self._rest:
            return []
        return [Text(self._rest)]

    # Steps: each decides about something of `_rest`, or returns False until more of it has come.

    def _step(self, events: list[Event]) -> bool:
        match self._place:
            case _Place.TEXT:
                return self._look(events)
            case _Place.CALL:
                return self._read(events)
            case _Place.BEHIND:
                return self._leave()

    def _look(self, events: list[Event]) -> bool:
        """Look for the beginning of a call, and let go of what is none."""
        rest, begin = self._rest, self._dialect.begin
        if self._bare:
            start = len(rest) - len(rest.lstrip(_GLUE))
            head = rest[start : start + len(begin)]
            if head != begin and begin.startswith(head):
                return False  # nothing yet, or a part of the mark
            if head != begin and head[0] in "{[":
                self._begin(start)
                return True
            self._bare = False
        found = rest.find(begin)
        # White space before a call is nothing that the model says: it goes the way of the mark.
        said = len(rest[: found if found >= 0 else _undecided(rest, begin)].rstrip())
        self._let_go(events, said)
        if found < 0:
            return False
        self._begin(found - said + len(begin))
        return True

    def _begin(self, start: int) -> None:
        self._place, self._start, self._json = _Place.CALL, start, _JsonEnd(start)

    def _read(self, events: list[Event]) -> bool:
        """Wait for the whole JSON of a call, or of a list of them."""
        first = self._rest[self._start :].lstrip()[:1]
        if not first:
            return False
        end = self._json.find(self._rest) if first in "{[" else self._start
        if end is None and len(self._rest) <= LONGEST:
            return False
        if end is None:
            end = len(self._rest)
        calls = self._calls_in(self._rest[self._start : end])
        if calls:
            events += calls
            self._rest = self._rest[end:]
            self._place, self._bare = _Place.BEHIND, self._dialect.bare
        else:
            self._let_go(events, end)
            self._place, self._bare = _Place.TEXT, False
        return True

    def _leave(self) -> bool:
        rest, end = self._rest.lstrip(_GLUE), self._dialect.end
        if len(rest) < len(end) and end.startswith(rest):
            return False
        if end and rest.startswith(end):
            self._rest = rest[len(end) :]
        self._place = _Place.TEXT
        return True

    def _let_go(self, events: list[Event], length: int) -> None:
        if length:
            events.append(Text(self._rest[:length]))
            self._rest = self._rest[length:]

    def _calls_in(self, text: str) -> list[ToolCall]:
        """Read the JSON. Empty: it is no call."""
        try:
            found = DECODE_CALLS(text) if text.lstrip().startswith("[") else [DECODE_CALL(text)]
            told = [(call.name, _arguments(call)) for call in found]
        except NO_JSON:
            return []
        if any(name not in self._offered for name, _ in told):
            return []
        calls = []
        for name, arguments in told[: None if self._most is None else self._most - self._calls]:
            calls.append(ToolCall(self._calls, new_id(self._dialect), name, arguments))
            self._calls += 1
        return calls


def new_id(dialect: Dialect | None = None) -> str:
    """Make an id for a call."""
    if dialect is not None and dialect.short_ids:
        return secrets.token_hex(5)[:9]
    return f"call_{secrets.token_hex(12)}"


def _undecided(text: str, mark: str) -> int:
    """Find where an end of `text` begins that may grow to be `mark`.

    >>> _undecided("so <tool", "<tool_call>")
    3
    """
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:length]):
            return len(text) - length
    return len(text)


def _arguments(call: WrittenCall) -> str:
    """Return the JSON text of the arguments, checked. Raises one of `NO_JSON`."""
    text = (bytes(call.arguments) or bytes(call.parameters) or b"{}").decode()
    if text.startswith('"'):
        text = _STRING(text)  # some models write JSON within JSON
    _OBJECT(text)
    return text
