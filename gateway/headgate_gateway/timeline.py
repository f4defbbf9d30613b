"""When what happened to a request. Everything told about it later is read from here.

Times are in s on the event loop's clock. Nothing is computed while the request is served: spans,
histograms, `Server-Timing` and the access log are made of these numbers afterwards.
"""

from functools import cache
from itertools import accumulate
from math import floor
from typing import Final, final

from headgate_api.snapshot import Cohort
from headgate_gateway.calls.events import Usage
from headgate_gateway.refusals import Code

STOPPED: Final = frozenset(
    {
        "cancelled",
        "hedge_lost",
        Code.DEADLINE_EXCEEDED,
        Code.GATEWAY_DRAINING,
        Code.INVALID_OUTPUT,
        Code.UPSTREAM_OVERRUN,
        Code.UPSTREAM_TIMEOUT,
    }
)
"""Ends of an attempt whose model server was still at work: it was stopped."""
_SHORT: Final = tuple(f"{us / 1000:.3f}" for us in range(1000))
"""Numbers below 1 ms, by us, as most stages are: to write one takes longer than many a stage."""


@final
class Attempt:
    """One try against one model server."""

    __slots__ = (
        "cohort", "ejected", "ended", "first_text", "granted", "hedge", "model", "pod", "result",
        "span", "started", "usage",
    )  # fmt: skip

    def __init__(
        self, pod: str, cohort: Cohort, hedge: bool, started: float, *, span: int = 0
    ) -> None:
        self.pod = pod
        self.cohort = cohort
        self.hedge = hedge  # asked while another one was still silent
        self.started = started
        self.first_text: float | None = None
        self.ended: float | None = None  # None: still running
        self.span = span  # its id in the trace: what the model server was told is its caller
        self.ejected = False  # the pod gets no more requests for a while
        self.model = ""  # ModelDeployment; empty: the request's
        self.granted = 0  # tokens that it could write, of an allowance
        self.usage: Usage | None = None  # None: the request's, or nothing was written
        self.result = ""
        """`ok`; a reason code; or `cancelled` with the request, `hedge_lost` to the other one,
        `stale`: the connection had rested for too long, which says nothing about the pod."""


@final
class Timeline:
    """Filled in as the request goes on."""

    __slots__ = (
        "_written", "at", "attempts", "ended", "first_text", "left", "names", "seconds", "started",
        "waits",
    )  # fmt: skip

    def __init__(self, started: float) -> None:
        self.started = started
        self.names: tuple[str, ...] = ()
        """Of its stages in order, with those that it may not come to."""
        self.seconds: list[float] = []
        """That each took, of those that it came to. One begins when the one before ends."""
        self.at = 0.0
        """When the last of them ended. 0: none has."""
        self.waits = ""
        """Name of the stage that it waits for, or last waited for. Others take no time."""
        self.attempts: list[Attempt] = []
        self.first_text: float | None = None
        """When the first text could be sent to the client."""
        self.left: float | None = None
        """When the client was seen to have left, before its answer was complete."""
        self.ended: float | None = None
        self._written: tuple[str, ...] = ()

    @property
    def stages(self) -> list[tuple[str, float]]:
        """Name and end of each stage that it came to."""
        _, *ends = accumulate(self.seconds, initial=self.started)
        return list(zip(self.names, ends, strict=False))

    def end(self, now: float) -> None:
        """Note the end of a stage."""
        self.seconds.append(now - (self.at or self.started))
        self.at = now

    def end_stage(self, name: str, now: float) -> None:
        """Note the end of a stage that belongs to no pipeline."""
        self.names += (name,)
        self.end(now)

    def written(self) -> tuple[str, ...]:
        """Write down in ms how long its stages took, once: it is told twice, and numbers take long.

        Who looks at a request in work sees those so far; then they are written down anew.

        >>> timeline = Timeline(1.0)
        >>> timeline.names, timeline.seconds = ("identity", "parse"), [0.0001009, 0.00206]
        >>> timeline.written()
        ('0.1', '2.06')
        """
        found = self._written
        if len(found) < len(self.seconds):
            try:
                found = tuple([_SHORT[floor(1e6 * each)] for each in self.seconds])
            except IndexError:
                found = tuple([str(floor(1e6 * each) / 1000) for each in self.seconds])
            self._written = found
        return found

    def listed(self) -> str:
        """List its stages and what they took, as JSON has the members of an object."""
        return _forms(self.names[: len(self.seconds)])[0] % self.written()

    def timed(self) -> str:
        """List them as `Server-Timing` does."""
        return _forms(self.names[: len(self.seconds)])[1] % self.written()


@cache
def _forms(names: tuple[str, ...]) -> tuple[str, str]:
    """Prepare lists of stages, with room for numbers. Requests end at a handful of stages."""
    listed = ",".join(f'"{name}":%s' for name in names)
    timed = ", ".join(f"{name};dur=%s" for name in names)
    return listed, timed
