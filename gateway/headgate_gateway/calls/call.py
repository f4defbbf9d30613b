"""One client's call on the model servers: whom to ask, when to ask again, when to give up.

All decisions about time and repetition are made here and nowhere else. An attempt is repeated, or
joined by a second one (a hedge), only while the client has seen nothing: nobody can tell then.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

import structlog
from msgspec import Struct

from headgate_api.snapshot import Cohort, HedgingBody, OutlierBody, RetryBody
from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.alarms import Alarms
from headgate_gateway.calls.allowance import Allowance
from headgate_gateway.calls.attempt import Attempt
from headgate_gateway.calls.deadline import EXCEEDED, TOO_SHORT, Deadline
from headgate_gateway.calls.events import NOTHING, WAITING, End, Event, Failed, Text, Usage
from headgate_gateway.calls.retry import COSTLY, backoff
from headgate_gateway.calls.source import Give
from headgate_gateway.calls.stops import Stops
from headgate_gateway.calls.traffic import Traffics
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.routing.pods import Pod, Pods, Pool
from headgate_gateway.routing.speculation import Preferred
from headgate_gateway.telemetry.trace_context import Trace, new_span_id
from headgate_gateway.timeline import STOPPED, Attempt as Record, Timeline
from headgate_gateway.waking import Signal

log = structlog.get_logger(__name__)

SILENT: Final = Failed(
    Refusal(Code.UPSTREAM_TIMEOUT, 504, "The model server stayed silent for too long.")
)
FAULTLESS: Final = frozenset(
    {
        Code.UPSTREAM_OVERLOADED,
        Code.UPSTREAM_REFUSED,
        Code.CONTEXT_LENGTH_EXCEEDED,
        Code.INVALID_OUTPUT,
    }
)
"""Failures that say nothing about the pod: it is busy, or any other would have said the same."""
SOON: Final = 0.0005
"""s; what is due by then is looked at together."""
NOT_READY: Final = Refusal(
    Code.MODEL_NOT_READY, 503, "No replica of this model is ready.", retry_after=5
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What no policy says: how long a call waits for what, in s."""

    connect: float = 2.0
    beat: float = 15.0  # between two signs of life


class Ask(Struct, frozen=True, kw_only=True):
    """What to ask, whom, and by which rules."""

    pool: Pool
    cohorts: Mapping[str, Cohort]
    prefers: Preferred | None = None  # which of them go first; None: all are alike
    task: Task
    plain: bool  # nothing is given to the client before the end
    deadline: Deadline
    retries: RetryBody
    hedging: HedgingBody | None
    outliers: OutlierBody
    allowance: Allowance | None = None  # of the request; None: it has no limits
    id: str  # of the request
    trace: Trace
    avoid: frozenset[Pod] = frozenset()  # they have failed it: it is a retry


@dataclass(frozen=True, slots=True)
class Backends:
    """What all calls share: who can be asked, and how it has gone lately."""

    pods: Pods
    patience: Patience
    traffics: Traffics = field(default_factory=Traffics)
    stops: Stops = field(default_factory=Stops)
    alarms: Alarms = field(default_factory=Alarms)
    clock: Callable[[], float] = time.monotonic
    """As the event loop's, which is a millisecond coarse and stands still within a turn."""


class Call:
    """`take()` events until `End` or `Failed`, then `close()`, whatever happened."""

    __slots__ = (
        "_alarms",
        "_allowance",
        "_ask",
        "_beat",
        "_clock",
        "_due",
        "_ending",
        "_failure",
        "_give",
        "_hedge_at",
        "_kept",
        "_news",
        "_open_at",
        "_patience",
        "_pods",
        "_refused",
        "_rested",
        "_retrying",
        "_running",
        "_shown",
        "_spent",
        "_stopped",
        "_stops",
        "_timeline",
        "_told",
        "_traffic",
        "_tries",
        "last",
        "rings_at",
    )

    def __init__(self, backends: Backends, ask: Ask, timeline: Timeline) -> None:
        self._pods = backends.pods
        self._patience = backends.patience
        self._stops = backends.stops
        self._traffic = traffic = backends.traffics.of(ask.pool)
        self._ask = ask
        self._allowance = ask.allowance
        self._timeline = timeline
        self._clock = backends.clock
        self._news = Signal()
        self._alarms = alarms = backends.alarms
        alarms.clocks.add(self)
        self.rings_at = inf
        self._give: Give | None = None  # who takes text in the moment in which it comes
        self._kept: Event | Exception | None = None  # what `take` has to say first
        self._due = -inf  # before, `take` has nothing to look at but what has come
        self._stopped: Refusal | None = None
        self._ending: End | Failed | None = None
        self._running: list[Attempt] = []  # two while a hedge runs
        self._shown = False  # the client may have seen something of an answer
        self._told = self._clock()  # when the client last had a sign of life
        self._beat = min(self._patience.beat, ask.deadline.beat)

        # Whom to ask
        self._tries = 0  # that count
        self._refused: set[Pod] = set()  # asked, and failed
        self._spent: set[str] = set()  # cohorts that took time and gave nothing
        self._failure: Failed | None = None  # of the last try that counts
        self._open_at = self._told  # not before
        self._rested = True  # a connection that has rested may be used
        self._retrying = False  # counted among the model's retries
        self._hedge_at: float | None = None
        traffic.active += 1
        if ask.avoid:
            self._retrying = True
            traffic.retrying += 1
        if ask.hedging is not None and not ask.deadline.background:
            traffic.earn(ask.hedging)
            self._hedge_at = self._hedge_time(ask.hedging)
        self.last: Attempt | None = None
        """The attempt that gave the answer, or the newest."""

    @property
    def pod(self) -> Pod | None:
        return self.last.pod if self.last is not None else None

    @property
    def cohort(self) -> Cohort | None:
        return self.last.cohort if self.last is not None else None

    @property
    def usage(self) -> Usage:
        return self.last.usage if self.last is not None else NOTHING

    def take(self) -> Event | None:
        """Take the next event; None: wait for `news()`. All text that has come is one `Text`."""
        if self._kept is not None:
            return self._take_kept()
        now = self._clock()
        if self._shown and now < self._due and self._ending is None:  # in mid-answer: one attempt
            attempt = self._running[0]
            event = attempt.poll(now)
            if event is None:
                return None
            if type(event) is Text:
                self._told = now
                return event
            return self._came(attempt, event, now) or self._step(now)
        return self._step(now)

    def news(self, give: Give | None = None) -> asyncio.Future[None]:
        """See `Source`. It is the same one each time: a `Signal`."""
        self._give = give
        return self._news  # type: ignore[return-value]  # as good as one

    def stop(self, refusal: Refusal) -> None:
        """Let the call fail with `refusal`, now."""
        self._stopped, self._due = refusal, -inf
        self._news.fire()

    def close(self) -> None:
        """Let go of everything. An answer still being made is cancelled."""
        self._alarms.drop(self)
        self._give = None  # it leads back here: no cycle is to keep both in memory
        if self._running:
            self._leave_all("cancelled", self._clock())
        self._traffic.active -= 1
        if self._retrying:
            self._traffic.retrying -= 1

    def ring(self) -> None:
        """Something is due. A client that does not read must hold no slot for ever."""
        self._due = -inf  # now, even where the clock says that it is a little too early
        if self._news.wakes is not None or self._ending is not None:
            self._news.fire()
        elif (now := self._clock()) < self._ask.deadline.stop_at:
            self._rings(self._ask.deadline.stop_at)
        else:
            self._end(EXCEEDED, now)

    # Text on its short way, from the model server's socket to the client's in one go

    def _heard(self) -> None:
        """Something has come: offer it as long as it is text, and wake who waits for the rest."""
        give, news = self._give, self._news
        try:
            while give is not None and news.wakes is not None:
                event = self.take()
                if event is None:
                    return
                if type(event) is not Text or not give(event):
                    self._kept = event
                    break
                if self._running and not self._running[0].ready:
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
        while self._ending is None:
            if self._stopped is not None:
                return self._end(Failed(self._stopped), now)
            if now >= self._ask.deadline.stop_at:
                return self._end(EXCEEDED, now)
            if not self._running and now >= self._open_at:
                no = self._open(now)
                if no is not None:
                    return self._end(no, now)
            event = self._poll(now)
            if event is not None:
                return event
            if self._running or now < self._open_at:
                return self._on_time(now) if now >= self._due else None
        return self._ending

    def _poll(self, now: float) -> Event | None:
        if len(self._running) == 1:  # as nearly always
            attempt = self._running[0]
            event = attempt.poll(now)
            return None if event is None else self._came(attempt, event, now)
        for attempt in tuple(self._running):
            event = attempt.poll(now)
            if event is not None:
                event = self._came(attempt, event, now)
                if event is not None:
                    return event
        return None

    def _came(self, attempt: Attempt, event: Event, now: float) -> Event | None:
        """Take up an attempt's event. None: it failed, and that is not the end."""
        if isinstance(event, Failed):
            ending = self._failed(attempt, event, now)
            return None if ending is None else self._end(ending, now)
        if not self._shown:
            self._won(attempt, now)
        self._told = now
        if isinstance(event, End):
            attempt.pod.answered(now)
            if self._ask.prefers is not None:
                self._learn(self._ask.prefers, attempt, event.usage, now)
            self._leave(attempt, "ok", now)
            if self._ask.plain:
                self._traffic.whole.add(now - attempt.record.started, now)
            self._ending = event
        return event

    def _won(self, winner: Attempt, now: float) -> None:
        """Something has come that the client may see: no other attempt matters any more."""
        record = winner.record
        record.first_text = now
        self._traffic.first_text.add((winner.spoke or now) - record.started, now)
        if self._retrying:  # it was worth it, and makes room for others
            self._retrying = False
            self._traffic.retrying -= 1
        self._shown, self.last = True, winner
        if self._silence_ends(winner) < self._due:
            self._watch(now)
        if len(self._running) > 1:
            for attempt in tuple(self._running):
                if attempt is not winner:
                    self._leave(attempt, "hedge_lost", now)

    def _end(self, ending: Failed, now: float) -> Failed:
        self._ending = ending
        self._leave_all(ending.refusal.code, now)
        return ending

    def _leave_all(self, result: str, now: float) -> None:
        for attempt in tuple(self._running):
            self._leave(attempt, result, now)

    def _leave(self, attempt: Attempt, result: str, now: float) -> None:
        self._running.remove(attempt)
        attempt.leave(result, now)
        if self._allowance is not None:
            self._settle(self._allowance, attempt, result)

    def _learn(self, prefers: Preferred, attempt: Attempt, usage: Usage, now: float) -> None:
        seconds = None if attempt.spoke is None else now - attempt.spoke
        prefers.answered(attempt.cohort, usage, load=attempt.load, seconds=seconds)

    # Whom to ask

    def _open(self, now: float) -> Failed | None:
        """Ask a pod. `Failed`: there is none, or no time; what was said before says more."""
        if not self._fits(now):
            return self._failure or TOO_SHORT
        if (no := self._overdrawn()) is not None:
            return self._failure or Failed(no)
        pod = self._choose(now)
        if pod is None:
            return self._failure or Failed(NOT_READY)
        self._try(pod, now)
        return None

    def _try(self, pod: Pod, now: float, *, hedge: bool = False) -> None:
        cohort = self._ask.cohorts[pod.cohort]
        record = Record(pod.name, cohort, hedge, now, span=new_span_id())
        self._timeline.attempts.append(record)
        task = self._ask.task
        if self._allowance is not None:
            task = self._allowance.grant(task)
            record.granted = task.sampling.max_tokens
        left = max(1, int((self._ask.deadline.stop_at - now) * 1000))
        attempt = Attempt(
            call_id=f"{self._ask.id}-{len(self._timeline.attempts)}",
            pod=pod,
            cohort=cohort,
            task=task,
            left_ms=left,
            headers=self._ask.trace.lines(record.span),
            record=record,
            on_news=self._heard,
            stops=self._stops,
        )
        self._running.append(attempt)
        self._tries += 1
        if self.last is None or not hedge:
            self.last = attempt
        attempt.start(rested=self._rested, connect_seconds=self._patience.connect)
        self._watch(now)

    def _overdrawn(self) -> Refusal | None:
        """Say no where the request may not ask once more."""
        return None if self._allowance is None else self._allowance.refuses(self._ask.task)

    def _settle(self, allowance: Allowance, attempt: Attempt, result: str) -> None:
        task, usage = self._ask.task, attempt.usage
        if result != "ok" and not usage.output_tokens:
            # Who was stopped in silence has read the prompt, or was about to.
            usage = Usage(task.input_tokens if attempt.asked and result in STOPPED else 0, 0)
        allowance.settle(task, attempt.record.granted, usage, asked=result != "stale")

    def _fits(self, now: float, pause: float = 0.0) -> bool:
        """Tell whether half of such calls lately took no longer than there is time."""
        left = self._ask.deadline.stop_at - now - pause
        pace = self._traffic.whole if self._ask.plain else self._traffic.first_text
        usual = pace.percentile(50, now)
        return left > 0 if usual is None else left >= usual

    def _choose(self, now: float) -> Pod | None:
        """Choose another pod than those that failed, and another cohort where that saves time."""
        ask = self._ask
        if self.last is None:
            if ask.prefers is not None:
                first = self._pods.ready(ask.pool, ask.prefers.cohorts)
                pod = self._pods.pick(first, now, avoid=ask.avoid)
                if pod is not None and now >= pod.ejected_until:
                    return pod
            return self._pods.pick(self._pods.ready(ask.pool, ask.cohorts), now, avoid=ask.avoid)
        pods = self._pods.ready(ask.pool, ask.cohorts.keys() - self._spent)
        if not pods and self._spent:
            pods = self._pods.ready(ask.pool, self._spent)
        busy = {attempt.pod for attempt in self._running} | self._refused
        pod = self._pods.pick(pods, now, avoid=busy)
        if pod is None and self.last.pod in pods:
            # The only pod: a new connection, or a pause, may do.
            return self.last.pod if self.last.kind not in COSTLY and not self._running else None
        return pod

    # When one fails

    def _failed(self, attempt: Attempt, failed: Failed, now: float) -> Failed | None:
        """Give up an attempt. None: another one goes on, or will."""
        code = failed.refusal.code
        stale = attempt.stale and not self._shown and self._rested
        self._leave(attempt, "stale" if stale else code, now)
        if stale:
            self._rested, self._tries = False, self._tries - 1
            return None  # a server may close a connection that rests: it costs no try, once
        if code not in FAULTLESS:
            attempt.record.ejected = self._pods.failed(attempt.pod, now, self._ask.outliers)
        log.warning(
            "model server failed",
            id=self._ask.id,  # it may be heard on a connection, which is of no request
            pod=attempt.pod.name,
            code=code,
            error=attempt.said,
        )
        self._refused.add(attempt.pod)
        if attempt.kind in COSTLY:
            self._spent.add(attempt.cohort.name)
        if self._running:
            return None  # the other one may still answer
        if attempt.retry_after is not None:
            failed = Failed(replace(failed.refusal, retry_after=attempt.retry_after))
        self._failure = failed
        if self._shown or not self._may_retry(attempt, now):
            return failed
        return None

    def _may_retry(self, attempt: Attempt, now: float) -> bool:
        policy, traffic = self._ask.retries, self._traffic
        if attempt.kind not in policy.retry_on or self._tries >= policy.max_attempts:
            return False
        if not traffic.may_retry(policy, already=self._retrying) or self._overdrawn() is not None:
            return False
        pause = backoff(policy, self._tries, random.random())  # noqa: S311 - jitter
        self.last = attempt
        other = self._choose(now)
        if other is None:
            return False
        if other is attempt.pod and attempt.retry_after is not None:
            pause = max(pause, attempt.retry_after)
        if not self._fits(now, pause):
            return False
        if not self._retrying:
            self._retrying = True
            traffic.retrying += 1
        self._open_at = now + pause
        self._watch(now)
        return True

    # Time

    def _hedge_time(self, hedging: HedgingBody) -> float | None:
        """When a second pod is asked, if nothing has come; None: nobody knows what is late."""
        wait = hedging.seconds
        if hedging.percentile is not None:
            wait = self._traffic.first_text.percentile(hedging.percentile, self._told)
        return None if wait is None else self._told + wait

    def _on_time(self, now: float) -> Event | None:
        """Do what is due. Called when nothing has come."""
        for attempt in tuple(self._running):
            if now >= self._silence_ends(attempt):
                ending = self._silent(attempt, now)
                if ending is not None:
                    return self._end(ending, now)
        if self._hedge_at is not None and now >= self._hedge_at:
            self._hedge(now)
        if now - self._told >= self._beat:
            self._told = now
            self._watch(now)
            return WAITING
        self._watch(now)
        return None

    def _silent(self, attempt: Attempt, now: float) -> Failed | None:
        attempt.kind = "FirstTokenTimeout"
        return self._failed(attempt, SILENT, now)

    def _silence_ends(self, attempt: Attempt) -> float:
        deadline = self._ask.deadline
        if self._shown or attempt.holding:
            return attempt.heard + deadline.idle_token
        return attempt.record.started + deadline.first_segment

    def _hedge(self, now: float) -> None:
        """Ask a second pod, if there is one and enough requests went without."""
        self._hedge_at = None
        if self._shown or self._tries != 1 or len(self._running) != 1 or not self._fits(now):
            return
        if self._running[0].holding:
            return
        if self._allowance is not None and not self._allowance.covers(self._ask.task):
            return
        pod = self._choose(now)
        if pod is not None and now >= pod.ejected_until and self._traffic.spend():
            self._try(pod, now, hedge=True)

    def _watch(self, now: float) -> None:
        """Set the one alarm to what is due next: cheaper than a timeout around every token."""
        due = min(self._told + self._beat, self._ask.deadline.stop_at)
        for attempt in self._running:
            if (silence_ends := self._silence_ends(attempt)) < due:
                due = silence_ends
        if not self._running and self._open_at < due:
            due = self._open_at
        if self._hedge_at is not None and self._hedge_at < due:
            due = self._hedge_at
        self._due = max(now + SOON, due)
        self._rings(self._due)

    def _rings(self, at: float) -> None:
        self.rings_at = at
        if at < self._alarms.rings_at:
            self._alarms.wind(at)
