"""What is going on with a model just now, as far as this gateway sees: who retries, how fast it is.

One `Traffic` per ModelDeployment. It is what bounds of a share ("at most 5 % of the requests") and
of a percentile ("after p95") refer to.
"""

from bisect import bisect_left
from typing import Final

from headgate_api.snapshot import HedgingBody, RetryBody
from headgate_gateway.calls.retry import retries_allowed
from headgate_gateway.routing.pods import Pool

WINDOW: Final = 30.0
"""s. What was seen in this window and the one before it counts."""
FRESH: Final = 0.25
"""s for which a percentile is told again without counting."""
ENOUGH: Final = 20
"""Samples below which a percentile would be an accident."""
BOUNDS: Final = tuple(0.001 * 1.2**i for i in range(80))
"""s; the last one is half an hour. A percentile is told to 20 %."""
KEPT: Final = 1000
"""Models whose traffic is remembered while nobody uses them."""


class Pace:
    """How long something took lately: a histogram over the last 30 to 60 s."""

    __slots__ = ("_before", "_began", "_counts", "_found")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._before = list(self._counts)
        self._began = 0.0
        self._found: dict[int, tuple[float, float | None]] = {}  # by percent: since when, and what

    def add(self, seconds: float, now: float) -> None:
        if now - self._began >= WINDOW:
            self._turn(now)
        self._counts[bisect_left(BOUNDS, seconds)] += 1

    def percentile(self, percent: int, now: float) -> float | None:
        """Tell the time, in s, that `percent` of what was seen stayed below.

        None: too little was seen lately. So an estimate that keeps everybody away is forgotten.
        """
        at, found = self._found.get(percent, (-FRESH, None))
        if now - at >= FRESH:
            found = self._find(percent, now)
            self._found[percent] = now, found
        return found

    def _find(self, percent: int, now: float) -> float | None:
        self._turn(now)
        counts = [a + b for a, b in zip(self._counts, self._before, strict=True)]
        total = sum(counts)
        if total < ENOUGH:
            return None
        wanted, seen = total * percent / 100, 0
        for bound, count in zip(BOUNDS, counts, strict=False):
            seen += count
            if seen >= wanted:
                return bound
        return BOUNDS[-1]

    def _turn(self, now: float) -> None:
        age = now - self._began
        if age < WINDOW:
            return
        empty = [0] * (len(BOUNDS) + 1)
        self._before = self._counts if age < 2 * WINDOW else empty
        self._counts = empty if self._before is not empty else list(empty)
        self._began = now


class Traffic:
    """See the module."""

    __slots__ = ("_credit", "active", "first_text", "retrying", "whole")

    def __init__(self) -> None:
        self.active = 0  # requests in work
        self.retrying = 0  # of them, those that wait for or run a retry
        self.first_text = Pace()  # of attempts
        self.whole = Pace()  # plain answers, of attempts
        self._credit = 0.0  # hedges that may be started

    def may_retry(self, policy: RetryBody, *, already: bool) -> bool:
        """`already`: the request is one of those that retry."""
        return self.retrying - already < retries_allowed(policy, self.active)

    def earn(self, hedging: HedgingBody) -> None:
        """Count a request that may be hedged: so many of them earn one hedge."""
        self._credit = min(float(hedging.max_percent), self._credit + hedging.max_percent / 100)

    def spend(self) -> bool:
        """Take a hedge, if one was earned. Never more than their share of all requests."""
        if self._credit < 1:
            return False
        self._credit -= 1
        return True


class Traffics:
    """The traffic of each model."""

    def __init__(self) -> None:
        self._of: dict[Pool, Traffic] = {}

    def of(self, pool: Pool) -> Traffic:
        traffic = self._of.get(pool)
        if traffic is None:
            if len(self._of) >= KEPT:
                self._of = {p: t for p, t in self._of.items() if t.active}
            traffic = self._of[pool] = Traffic()
        return traffic
