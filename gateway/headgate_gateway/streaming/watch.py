"""What is seen of a stream while it is given: how soon, how evenly, and what it took back.

Retractions and confident starts are found by a few English phrases at the start of segments. That
is a heuristic: it compares models, prompts and routes with each other, and judges no answer.
"""

import re
from bisect import bisect_left
from math import inf
from typing import Final, Literal, TypeAlias

from headgate_gateway.calls.events import End, Event, Text, ToolCall
from headgate_gateway.metrics import GAP_BOUNDS, Metrics
from headgate_gateway.refusals import Code
from headgate_gateway.request import Request
from headgate_gateway.streaming.segments import Cause
from headgate_gateway.telemetry.series import Spread

Ending: TypeAlias = Literal["complete", "stopped", "broken", "left"]
"""`left`: the client did."""

LOOKED_AT: Final = 64
"""Characters of a segment's start."""
SHORTEST: Final = len("wait no")
"""Characters of a segment that can take anything back."""
_STARTS: Final = "ac ap co i le oo sc so wa "
"""Two letters that each phrase that takes something back begins with one of. Looking for them takes
a fifth of looking for all phrases."""
_QUOTES: Final = r"[\s*_>\"'(#-]{0,8}"
_MEANS: Final = re.compile(r"\w")
_RETRACTS: Final = re.compile(
    rf"{_QUOTES}(?:correction\b|scratch that\b|(?:sorry|apologies|oops)[,.!]? "
    r"(?:i was|i made|that was|that is|that's|my)\b|i was wrong\b|i misspoke\b|i made an? "
    r"(?:mistake|error)\b|i (?:must|need to|have to) correct\b|let me correct\b|"
    r"(?:actually|wait)[,.]? (?:no|that is|that's|i was)\b)",
    re.IGNORECASE,
)
_ASSERTS: Final = re.compile(
    rf"{_QUOTES}(?:yes|no|true|false|correct|incorrect|right|wrong|definitely|certainly|absolutely|"
    r"of course|the (?:answer|result|solution|value) is)\b",
    re.IGNORECASE,
)
_ABORTS: Final = ((1, "0"), (2, "1"), (10, "2-9"))


def retracts(text: str) -> bool:
    """Say whether a segment begins like one that takes back what was said.

    >>> retracts("Actually, no. It is 5."), retracts("**Correction:** 5."), retracts("It is 5.")
    (True, True, False)
    """
    start = text.lstrip()[:2].lower()
    if start not in _STARTS and start[:1].isalnum() and start.isascii():
        return False
    return _RETRACTS.match(text, 0, LOOKED_AT) is not None


def asserts(text: str) -> bool:
    """Say whether a first segment begins with a verdict or a result.

    >>> [asserts(text) for text in ("Yes, it does.", "The answer is 4.", "Nobody knows.")]
    [True, True, False]
    """
    return _ASSERTS.match(text, 0, LOOKED_AT) is not None


class Watch:
    """Told of every segment when it is given."""

    __slots__ = (
        "_above",
        "_gaps",
        "_last",
        "_number",
        "_row",
        "_total",
        "_up_to",
        "asserted",
        "causes",
        "ending",
        "first",
        "longest",
        "retracted",
        "segments",
        "withheld",
    )

    def __init__(self) -> None:
        # Looked at for every event, so in one place
        self.segments = 0
        self._last = 0.0  # when the newest one was given
        self.longest = 0.0
        """The longest time between one segment and the next, in s."""
        self._total = 0.0  # s, of all of them
        # So many in a row lay between the same bounds: a model writes evenly
        self._row = 0
        self._above = self._up_to = inf
        self.first: float | None = None
        """When the first one was given that means something: a word, or a tool's call."""
        self.retracted = self.asserted = False

        self._number = 0  # of the bucket that the row is of
        self._gaps = Spread(GAP_BOUNDS)  # not each of them: a stream may have very many
        self.causes: dict[Cause, int] = {}
        """Why those that are text ended where they did."""
        self.ending: Ending = "left"  # until it is known to be another
        self.withheld: Code | None = None
        """Why the client did not get what was held at the end."""

    @property
    def gaps(self) -> Spread:
        """Times between one segment and the next, in s."""
        self._gaps.counts[self._number] += self._row
        self._gaps.total, self._row = self._total, 0
        return self._gaps

    def given(self, segment: Event, now: float) -> None:
        if self.segments:
            gap = now - self._last
            if not self._above < gap <= self._up_to:
                self._begin_row(gap)
            self._row += 1
            self._total += gap
            if gap > self.longest:  # noqa: PLR1730 - `max` makes objects of numbers
                self.longest = gap
        self.segments += 1
        self._last = now
        if type(segment) is Text:
            text = segment.text
            if self.first is None:
                if _MEANS.search(text) is not None:
                    self.first, self.asserted = now, asserts(text)
            elif len(text) >= SHORTEST and not self.retracted:
                self.retracted = retracts(text)
        elif self.first is None and isinstance(segment, ToolCall):
            self.first = now

    def _begin_row(self, gap: float) -> None:
        bounds = self.gaps.bounds
        self._number = number = bisect_left(bounds, gap)
        self._above = bounds[number - 1] if number else -inf
        self._up_to = bounds[number] if number < len(bounds) else inf


def tell(metrics: Metrics, request: Request, watch: Watch, end: End | None) -> None:
    """Add one stream to the metrics, once it is over."""
    namespace = request.credential.tenant.namespace
    labels = (namespace, request.label)
    streams = metrics.streams
    streams.ended.of(*labels, watch.ending).add()
    for cause, count in watch.causes.items():
        streams.segments.of(*labels, cause).add(count)
    if watch.withheld is not None:
        streams.withheld.of(*labels, watch.withheld).add()
    if watch.first is not None:
        seconds = watch.first - request.timeline.started
        streams.first_seconds.of(*labels).observe(seconds)
    streams.gap_seconds.of(*labels).add(watch.gaps)
    if watch.ending == "left":
        far = next((word for most, word in _ABORTS if watch.segments < most), "10+")
        streams.aborts.of(*labels, far).add()
    signals = streams.signals
    if watch.retracted:
        signals.of(*labels, "retraction").add()
    if watch.asserted:
        signals.of(*labels, "confident_start").add()
        if watch.ending != "left" and (watch.retracted or not _complete(end)):
            signals.of(*labels, "confidence_mismatch").add()


def _complete(end: End | None) -> bool:
    return end is not None and end.finish_reason in {"stop", "tool_calls"}
