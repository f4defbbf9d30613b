"""What a client asked of an answer's form, kept while the answer comes.

Filters stand between a runtime's reader and the call. An answer that breaks its form fails as one
of the model server would: as long as nobody has seen any of it, it may be tried again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from headgate_gateway.calls.adapter import Check, Form, Reader
from headgate_gateway.calls.events import (
    MOST_KEPT,
    NO_JSON,
    End,
    Event,
    Failed,
    Text,
    ToolCall,
    Usage,
    weight,
)
from headgate_gateway.calls.failures import INVALID, INVALID_OUTPUT
from headgate_gateway.calls.toolcalls import ToolCalls

LONGEST: Final = 1024 * 1024
"""Characters of an answer that is checked as a whole."""

_DECODE: Final = msgspec.json.Decoder().decode


class Filter(Protocol):
    def take(self, event: Event) -> Sequence[Event]:
        """Let an event through, or others in its place. The last one is an `End` or a `Failed`."""
        ...


class Filtered(Reader):
    """A reader behind filters."""

    def __init__(self, reader: Reader, filters: Sequence[Filter]) -> None:
        super().__init__()
        self._reader = reader
        self._filters = filters

    @property
    def usage(self) -> Usage:
        return self._reader.usage

    def feed(self, piece: bytes) -> tuple[Event, ...]:
        return self._through(self._reader.feed(piece))

    def end(self) -> tuple[Event, ...]:
        return self._through(self._reader.end())

    def _through(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        self.error = self._reader.error
        for each in self._filters:
            passed: list[Event] = []
            for event in events:
                passed += each.take(event)
                if passed and isinstance(passed[-1], (End, Failed)):
                    break
            self.holding = self.holding or bool(events)
            events = tuple(passed)
        return events


class MustCall:
    """Holds an answer until it calls a tool. One that calls none is not what was asked for."""

    def __init__(self) -> None:
        self._held: list[Event] = []
        self._kept = 0  # bytes of it
        self._called = False

    def take(self, event: Event) -> Sequence[Event]:
        if self._called or isinstance(event, Failed):
            return (event,)
        if isinstance(event, End) and event.finish_reason == "stop":
            return (INVALID_OUTPUT,)
        self._held.append(event)
        self._kept += weight(event)
        if self._kept > MOST_KEPT:
            return (INVALID,)
        if isinstance(event, (ToolCall, End)):
            self._called = True
            return self._held
        return ()


class Whole:
    """Holds an answer to its end: until then it may be tried again."""

    def __init__(self) -> None:
        self._held: list[Event] = []
        self._kept = 0  # bytes of it

    def take(self, event: Event) -> Sequence[Event]:
        if isinstance(event, Failed):
            return (event,)
        self._held.append(event)
        self._kept += weight(event)
        if self._kept > MOST_KEPT:
            return (INVALID,)
        return self._held if isinstance(event, End) else ()


class ArgumentsFit:
    """Checks the arguments of strict tools. `checks`: by the tool's name."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    def take(self, event: Event) -> Sequence[Event]:
        if isinstance(event, ToolCall):
            check = self._checks.get(event.name)
            if check is not None and not valid(event.arguments, check):
                return (INVALID_OUTPUT,)
        return (event,)


class TextFits:
    """Checks a whole answer's text.

    Args:
        check: says whether a JSON value is right.
        hold: let nothing go before it was checked.
    """

    def __init__(self, check: Check, *, hold: bool) -> None:
        self._check = check
        self._hold = hold
        self._held: list[Event] = []
        self._text: list[str] = []
        self._length = 0
        self._kept = 0  # bytes of what is held
        self._called = False

    def take(self, event: Event) -> Sequence[Event]:
        match event:
            case Text(text):
                self._text.append(text)
                self._length += len(text)
                if self._length > LONGEST:
                    return (INVALID,)
            case ToolCall():
                self._called = True
            case End(reason, _):
                if not self._right(reason):
                    return (INVALID_OUTPUT,)
                return [*self._held, event]
            case Failed():
                return (event,)
            case _:
                pass
        if not self._hold:
            return (event,)
        self._held.append(event)
        self._kept += weight(event)
        return (INVALID,) if self._kept > MOST_KEPT else ()

    def _right(self, reason: str) -> bool:
        # What a limit cut says so by its reason, and a call of a tool is no answer yet.
        if reason != "stop" or (self._called and not self._text):
            return True
        return valid("".join(self._text), self._check)


def in_form(reader: Reader, form: Form | None, *, in_text: bool) -> Reader:
    """Put the filters behind a reader that the form calls for.

    `in_text`: the reader leaves calls of tools in the text.
    """
    if form is None:
        return reader
    filters: list[Filter] = []
    if form.dialect is not None and in_text:
        filters.append(
            ToolCalls(
                form.dialect,
                form.offered,
                lambda: reader.usage,
                most=form.most,
                said=form.said,
            )
        )
    if form.must_call:
        filters.append(MustCall())
    if form.arguments:
        filters.append(ArgumentsFit(form.arguments))
    if form.check is not None:
        filters.append(TextFits(form.check, hold=form.hold))
    if form.whole:
        filters.append(Whole())
    return Filtered(reader, filters)


def valid(text: str, check: Check) -> bool:
    """Say whether `text` is JSON that passes the check."""
    try:
        return check(_DECODE(text))
    except NO_JSON:
        return False


def is_object(value: Any) -> bool:
    return isinstance(value, dict)
