"""Segments: a model's text in the pieces in which a client gets it.

A segment is a sentence, a line or a line of code, so that whoever checks text before it is given
has something to understand, and whoever reads it is not shown half a promise. Pure: times are
arguments, and who owns the clock asks `due`.

Where a text is cut depends on the text alone and not on the pieces in which it came, but for what
was held for too long.
"""

import re
from collections.abc import Sequence
from math import inf
from operator import attrgetter
from typing import Final, Literal, TypeAlias, final

from msgspec import Raw

from headgate_api.snapshot import StreamingBody
from headgate_gateway.calls.events import Event, Reasoning, Text
from headgate_gateway.streaming.fences import Fences
from headgate_gateway.streaming.logprobs import behind, tokens
from headgate_gateway.streaming.sentences import (
    CANDIDATE,
    LAST,
    MARKS,
    OPEN,
    WIDE_MARKS,
    ends_sentence,
)
from headgate_gateway.streaming.words import last_word, whole

Cause: TypeAlias = Literal["sentence", "line", "fence", "size", "hold", "end"]
"""Why a segment ends where it does. `fence`: a line of code; `end`: of the answer, or of the text
before a tool's call or before reasoning."""

SETTLED: Final = 0.015
"""s of silence behind what looks like a sentence's end that say that it is one. Models write the
space behind it together with the next word."""
NOTHING: Final[tuple[Event, ...]] = ()
_VISIBLE: Final = re.compile(r"\S")
_NEVER: Final = re.compile(r"(?!)")
_TRIGGERS: Final = {
    "Sentence": re.compile(rf"[\n{MARKS}{WIDE_MARKS}]"),
    "Line": re.compile(r"\n"),
    "Size": _NEVER,
    "Token": _NEVER,
}
"""Text without one of these neither ends a segment nor begins what may end one."""
_CANDIDATES: Final = _TRIGGERS | {"Sentence": CANDIDATE}


_LOGPROBS: Final = attrgetter("logprobs")


class Segmenter:
    """Feed it events, tell it when `due` is over, and `finish` or `stop` it: each gives segments.

    Segments are events again: `Text`, `Reasoning`, and calls of tools as they came.
    """

    __slots__ = (
        "_arrived",
        "_candidate",
        "_channels",
        "_events",
        "_fences",
        "_hold",
        "_joined",
        "_kind",
        "_length",
        "_most",
        "_open",
        "_settles",
        "_text",
        "_trigger",
        "causes",
        "due",
        "withheld",
    )

    def __init__(self, how: StreamingBody) -> None:
        self._trigger = _TRIGGERS[how.boundary].search
        self._candidate = _CANDIDATES[how.boundary].search
        self._most = how.max_characters
        self._hold = how.max_hold
        self._channels = {Text: Fences(), Reasoning: Fences()}
        self._fences = self._channels[Text]
        self._kind: type[Text | Reasoning] | None = None  # of what is held
        self._events: list[Text | Reasoning] = []  # what is held: all of one kind
        self._arrived: list[float] = []  # when each of them came
        self._length = 0  # characters of it
        self._text = ""  # of the first of them
        self._joined = 0  # so many
        self._open: int | None = None  # where marks begin that end it, and a sentence maybe
        self._settles = inf  # when they do, if nothing follows
        self.due = inf
        """When to call `expire`, on the clock of the times that it is given."""
        self.causes: dict[Cause, int] = {}
        """Segments of text so far, by why they ended."""
        self.withheld = False
        """A stop has left out text."""

    def feed(self, event: Event, now: float) -> Sequence[Event]:
        """Take what came, and return what can go."""
        if type(event) is not self._kind:
            return self._turn(event, now)
        text = event.text
        if not self._events:
            self.due = now + self._hold
        self._events.append(event)
        self._arrived.append(now)
        self._length = length = self._length + len(text)
        if length <= self._most:
            if self._open is not None:
                if not text.strip(OPEN):
                    self._wait(self._open, now)
                    return NOTHING
            elif (found := self._trigger(text)) is None:
                return NOTHING
            elif len(text.rstrip(OPEN)) <= found.start():
                self._wait(length - len(text) + found.start(), now)
                return NOTHING
        return self._look(length - len(text), now)

    def passes(self, text: str) -> bool:
        """Say whether text goes as it comes, of which then nothing else is to be told."""
        return False

    def expire(self, now: float) -> Sequence[Event]:
        """Return what has to go, since `due` is over."""
        held = self._held
        if not held:
            self.due = inf
            return NOTHING
        if now >= self._arrived[0] + self._hold:
            cut = self._overdue(held, now)
            if cut:
                return self._let_go(cut, "hold")
            self._open, self._settles = 0, inf  # whatever follows, it is time
            self.due = inf
            return NOTHING
        if now >= self._settles:
            self._settles = inf
            if self._ends_here(held):
                return self._let_go(len(held), "sentence")
        self.due = min(self._settles, self._arrived[0] + self._hold)
        return NOTHING

    def finish(self) -> list[Event]:
        """Return all that is held: nothing follows."""
        segments = [] if self._open is None else self._look(self._length, 0.0)
        return [*segments, *self._let_go(self._length, "end")]

    def stop(self) -> list[Event]:
        """Return what is held up to where it may end. The rest is not given at all.

        Prose may end behind a word; code only behind a line: half a command is another one.
        """
        held = self._held
        if self._ends_here(held):
            return self.finish()
        code = self._fences.holds(held)
        segments = self._let_go(held.rfind("\n") + 1 if code else last_word(held, len(held)), "end")
        self.withheld = self._length > 0
        self._keep("", self._length)
        return segments

    @property
    def close(self) -> str:
        """What closes a block of code that is open in the text that was given."""
        return self._channels[Text].close

    @property
    def _held(self) -> str:
        """All of it, in one piece. What was put together once stays so."""
        if self._joined < len(self._events):
            new = "".join([event.text for event in self._events[self._joined :]])
            self._text += new
            self._joined = len(self._events)
        return self._text

    def _turn(self, event: Event, now: float) -> Sequence[Event]:
        """Something else begins: what is held goes first."""
        segments = self.finish()
        if isinstance(event, Text | Reasoning):
            self._kind = type(event)
            self._fences = self._channels[self._kind]
            return [*segments, *self.feed(event, now)]
        self._kind = None
        return [*segments, event]

    # Boundaries

    def _look(self, scan: int, now: float) -> list[Event]:
        """Cut off segments while there are any. None ends before `scan`."""
        if self._open is not None:
            scan, self._open, self._settles = self._open, None, inf
            self.due = self._arrived[0] + self._hold
        text, start = self._held, 0
        segments: list[Event] = []
        logprobs: list[tuple[int, Raw]] = []
        window = text[: self._most + 1]
        while (found := self._boundary(window, scan)) is not None:
            length, cause = found
            if not segments:
                logprobs = self._logprobs()
            start, scan = start + length, 0
            segments.append(self._segment(window[:length], start, cause, logprobs))
            window = text[start : start + self._most + 1]
        if segments:
            self._keep(text, start)
        if window and window[-1] in OPEN and (last := LAST.search(window, scan)) is not None:
            self._wait(last.start(), now)
        return segments

    def _boundary(self, text: str, scan: int) -> tuple[int, Cause] | None:
        """Find where the segment ends that `text` begins with. None: more has to come."""
        if text[:1].isspace():  # an empty line goes with what follows it
            first = _VISIBLE.search(text)
            scan = max(scan, len(text) if first is None else first.start())
        while (found := self._candidate(text, scan)) is not None:
            scan = found.end()
            cause = self._cause(text, found)
            if cause is not None:
                behind = scan + (cause == "sentence" and text[scan].isspace())
                if behind <= self._most:
                    return behind, cause
                break
        return (self._cut(text), "size") if len(text) > self._most else None

    def _cause(self, text: str, found: re.Match[str]) -> Cause | None:
        """Say what ends at a candidate. None: nothing."""
        at = found.start()
        before = text[:at]
        code = self._fences.holds(before)
        if text[at] == "\n":
            return "fence" if code else "line"
        if code or not ends_sentence(text, found, self._fences.line(before)):
            return None
        return "sentence"

    def _cut(self, text: str) -> int:
        """Find the best place to cut a text that is one character too long."""
        last = self._most
        newline = text.rfind("\n", 0, last) + 1
        if newline and self._fences.holds(text[:last]):
            return newline
        return (last if text[last].isspace() else last_word(text, last)) or whole(text, last)

    # What is held for long

    def _wait(self, at: int, now: float) -> None:
        """Look again from `at` on when more has come; or nothing does, and it is a sentence."""
        self._open = at
        self._settles = now + SETTLED
        self.due = min(self.due, self._settles)

    def _ends_here(self, held: str) -> bool:
        """Say whether what is held looks like a whole sentence.

        Behind a figure it may be a part of a number.
        """
        found = LAST.search(held)
        if found is None or held[found.start() - 1 : found.start()].isdecimal():
            return False
        before = held[: found.start()]
        if self._fences.holds(before):
            return False
        return ends_sentence(held, found, self._fences.line(before))

    def _overdue(self, held: str, now: float) -> int:
        """Tell how much of what is held has to go now."""
        if self._fences.grows(held):
            return held.rfind("\n") + 1  # a mark is given whole
        word = last_word(held, len(held))
        arrived = self._arrived[self._event(len(held) - word)[0] :]
        return word if word and (not arrived or now < arrived[0] + self._hold) else len(held)

    # Giving

    def _let_go(self, cut: int, cause: Cause) -> list[Event]:
        """Give all that is held before `cut`."""
        if not cut:
            return []
        held = self._held
        segment = self._segment(held[:cut], cut, cause, self._logprobs())
        self._keep(held, cut)
        return [segment]

    def _segment(
        self, text: str, end: int, cause: Cause, logprobs: list[tuple[int, Raw]]
    ) -> Text | Reasoning:
        self.causes[cause] = self.causes.get(cause, 0) + 1
        self._fences.feed(text)
        if self._kind is Reasoning:
            return Reasoning(text)
        if not logprobs:
            return Text(text)
        taken = tuple(raw for place, raw in logprobs if place <= end)
        del logprobs[: len(taken)]
        return Text(text, taken)

    def _keep(self, held: str, start: int) -> None:
        """Forget all that is held before `start`: it was given."""
        self._text = held[start:]
        self._length -= start
        if not self._length:
            self._events, self._arrived, self._joined = [], [], 0
            self._open, self._settles, self.due = None, inf, inf
            return
        index, skip = self._event(self._length)
        self._events = self._events[index:]
        self._arrived = self._arrived[index:]
        self._joined = len(self._events)
        if skip:
            self._events[0] = behind(self._events[0], skip)
        if self._open is not None and self._open >= start:
            self._open -= start
        else:
            self._open, self._settles = None, inf
        self.due = min(self._settles, self._arrived[0] + self._hold)

    def _event(self, rest: int) -> tuple[int, int]:
        """Find the event that the last `rest` characters begin in, and where in it."""
        index = len(self._events)
        while rest > 0:
            index -= 1
            rest -= len(self._events[index].text)
        return index, -rest

    def _logprobs(self) -> list[tuple[int, Raw]]:
        """List the log probabilities of all that is held, with where their tokens end."""
        places: list[tuple[int, Raw]] = []
        at = 0
        if self._kind is Text and any(map(_LOGPROBS, self._events)):
            for event in self._events:
                places += [(at + place, raw) for place, raw in tokens(event)]
                at += len(event.text)
        return places


@final
class Pieces(Segmenter):
    """Holds nothing: each piece of text goes as it comes. It still knows of open blocks of code."""

    __slots__ = ("_prose",)

    def __init__(self, how: StreamingBody) -> None:
        super().__init__(how)
        self._prose = False  # only another line can begin, or end, a block

    def feed(self, event: Event, now: float) -> Sequence[Event]:
        if isinstance(event, Text):
            self.passes(event.text)
        return (event,)

    def passes(self, text: str) -> bool:
        if not self._prose or text.find("\n") >= 0:
            self._fences.feed(text)
            self._prose = self._fences.prose
        return True


def segmenter(how: StreamingBody) -> Segmenter:
    """Make the one that a route's rules call for."""
    return Pieces(how) if how.boundary == "Token" else Segmenter(how)
