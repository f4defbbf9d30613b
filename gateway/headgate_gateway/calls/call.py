"""One client's call on the model servers: what it gives the client, and when what is due.

Time is seen to here, and repetition in `Tries`, and both nowhere else.
"""

from math import inf
from typing import Final, final

from headgate_api.snapshot import Cohort
from headgate_gateway.calls.ask import Ask, Backends
from headgate_gateway.calls.attempt import Attempt
from headgate_gateway.calls.deadline import EXCEEDED
from headgate_gateway.calls.events import NOTHING, WAITING, End, Event, Failed, Text, Usage
from headgate_gateway.calls.failures import SILENT
from headgate_gateway.calls.source import Give, Source
from headgate_gateway.calls.tries import Tries
from headgate_gateway.refusals import Refusal
from headgate_gateway.timeline import Timeline
from headgate_gateway.waking import Signal

SOON: Final = 0.0005
"""s; what is due by then is looked at together."""


@final
class Call(Source):
    """See `Source`."""

    __slots__ = (
        "_alarms",
        "_answering",
        "_ask",
        "_beat",
        "_clock",
        "_deadline",
        "_due",
        "_ending",
        "_give",
        "_kept",
        "_news",
        "_shown",
        "_stopped",
        "_told",
        "rings_at",
        "tries",
    )

    def __init__(self, backends: Backends, ask: Ask, timeline: Timeline) -> None:
        deadline = ask.deadline

        # Looked at for every event, so in one place
        self._give: Give | None = None  # who takes text in the moment in which it comes
        self._news = Signal()
        self._clock = backends.clock
        self._answering: Attempt | None = None  # in mid-answer: no other one matters
        self._due = -inf  # before, `take` has nothing to look at but what has come
        self._told = now = self._clock()  # when the client last had a sign of life

        self._ask = ask
        self._deadline = deadline
        self._kept: Event | Exception | None = None  # what `take` has to say first
        self._stopped: Refusal | None = None
        self._ending: End | Failed | None = None
        self._shown = False  # the client may have seen something of an answer
        self._beat = min(backends.patience.beat, deadline.beat)
        self.rings_at = inf
        self._alarms = backends.alarms
        self._alarms.clocks.add(self)
        self.tries = Tries(backends, ask, timeline, now)

    @property
    def last(self) -> Attempt | None:
        return self.tries.last

    @property
    def cohort(self) -> Cohort | None:
        last = self.tries.last
        return last.cohort if last is not None else None

    @property
    def usage(self) -> Usage:
        last = self.tries.last
        return last.usage if last is not None else NOTHING

    def take(self) -> Event | None:
        """Take the next event; None: wait for `news()`. All text that has come is one `Text`."""
        if self._kept is not None:
            return self._take_kept()
        return self._next(self._clock())

    def _next(self, now: float) -> Event | None:
        attempt = self._answering
        if attempt is None or now >= self._due:
            return self._step(now)
        event = attempt.poll(now)
        if event is None:
            return None
        if isinstance(event, Text):
            self._told = now
            return event
        return self._came(attempt, event, now) or self._step(now)

    def news(self, give: Give | None = None) -> Signal:
        self._give = give
        return self._news

    def stop(self, refusal: Refusal) -> None:
        self._stopped, self._due = refusal, -inf
        self._news.fire()

    def close(self) -> None:
        self._alarms.drop(self)
        self._give = None  # it leads back here: no cycle is to keep both in memory
        if self.tries.running:
            self.tries.leave_all("cancelled", self._clock())
        self.tries.close()

    def ring(self) -> None:
        """Something is due. A client that does not read must hold no slot for ever."""
        self._due = -inf  # now, even where the clock says that it is a little too early
        if self._news.wakes is not None or self._ending is not None:
            self._news.fire()
        elif (now := self._clock()) < self._deadline.stop_at:
            self._rings(self._deadline.stop_at)
        else:
            self._end(EXCEEDED, now)

    # Text on its short way, from the model server's socket to the client's in one go

    def _heard(self) -> None:
        """Something has come: offer it as long as it is text, and wake who waits for the rest."""
        give, news = self._give, self._news
        try:
            while give is not None and news.wakes is not None:
                now = self._clock()
                event = self._next(now)
                if event is None:
                    return
                if not isinstance(event, Text) or not give(event, now):
                    self._kept = event
                    break
                answering = self._answering
                if answering is not None and not answering.ready:
                    return  # as nearly always: to ask again costs more than to look
        except Exception as error:  # noqa: BLE001 - raised again where it is told
            self._kept = error
        news.fire()

    def _take_kept(self) -> Event | None:
        kept, self._kept = self._kept, None
        if isinstance(kept, Exception):
            raise kept
        return kept

    # One step: look at everything once

    def _step(self, now: float) -> Event | None:
        tries = self.tries
        while self._ending is None:
            if self._stopped is not None:
                return self._end(Failed(self._stopped), now)
            if now >= self._deadline.stop_at:
                return self._end(EXCEEDED, now)
            if not tries.running and now >= tries.open_at:
                no = tries.open(now, self._heard)
                if no is not None:
                    return self._end(no, now)
                self._watch(now)
            event = self._poll(now)
            if event is not None:
                return event
            if tries.running or now < tries.open_at:
                return self._on_time(now) if now >= self._due else None
        return self._ending

    def _poll(self, now: float) -> Event | None:
        running = self.tries.running
        if len(running) == 1:  # as nearly always
            event = running[0].poll(now)
            return None if event is None else self._came(running[0], event, now)
        for attempt in tuple(running):
            event = attempt.poll(now)
            if event is not None:
                event = self._came(attempt, event, now)
                if event is not None:
                    return event
        return None

    def _came(self, attempt: Attempt, event: Event, now: float) -> Event | None:
        """Take up an attempt's event. None: it failed, and that is not the end."""
        if isinstance(event, Failed):
            return self._failed(attempt, event, now)
        if not self._shown:
            self._shown, self._answering = True, attempt
            self.tries.won(attempt, now)
            if self._silence_ends(attempt) < self._due:
                self._watch(now)
        self._told = now
        if isinstance(event, End):
            self.tries.answered(attempt, event.usage, now)
            self._ending, self._answering = event, None
        return event

    def _failed(self, attempt: Attempt, failed: Failed, now: float) -> Failed | None:
        self._answering = None
        ending = self.tries.failed(attempt, failed, now, shown=self._shown)
        if ending is not None:
            return self._end(ending, now)
        self._watch(now)
        return None

    def _end(self, ending: Failed, now: float) -> Failed:
        self._ending, self._answering = ending, None
        self.tries.leave_all(ending.refusal.code, now)
        return ending

    # Time

    def _on_time(self, now: float) -> Event | None:
        """Do what is due. Called when nothing has come."""
        tries = self.tries
        for attempt in tuple(tries.running):
            if now >= self._silence_ends(attempt):
                attempt.kind = "FirstTokenTimeout"
                ending = self._failed(attempt, SILENT, now)
                if ending is not None:
                    return ending
        if now >= tries.hedge_at and not self._shown:
            tries.hedge(now, self._heard)
        beats = now - self._told >= self._beat
        if beats:
            self._told = now
        self._watch(now)
        return WAITING if beats else None

    def _silence_ends(self, attempt: Attempt) -> float:
        if self._shown or attempt.holding:
            return attempt.heard + self._deadline.idle_token
        return attempt.record.started + self._deadline.first_segment

    def _watch(self, now: float) -> None:
        """Set the one alarm to what is due next: cheaper than a timeout around every token."""
        tries = self.tries
        due = min(self._told + self._beat, self._deadline.stop_at)
        for attempt in tries.running:
            due = min(due, self._silence_ends(attempt))
        if not tries.running:
            due = min(due, tries.open_at)
        if not self._shown:
            due = min(due, tries.hedge_at)
        self._due = max(now + SOON, due)
        self._rings(self._due)

    def _rings(self, at: float) -> None:
        self.rings_at = at
        if at < self._alarms.rings_at:
            self._alarms.wind(at)
