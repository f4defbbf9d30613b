"""Whom a call asks, whom next where that fails, and when it gives up.

An attempt is repeated, or joined by a second one (a hedge), only while the client has seen nothing:
nobody can tell then.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Final, final

import structlog

from headgate_gateway.calls.ask import NOBODY, Ask, Backends
from headgate_gateway.calls.attempt import Attempt
from headgate_gateway.calls.deadline import TOO_SHORT
from headgate_gateway.calls.events import Failed, Usage
from headgate_gateway.calls.failures import NOT_READY
from headgate_gateway.calls.retry import COSTLY, backoff
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.routing.pods import Pod
from headgate_gateway.telemetry.trace_context import new_span_id
from headgate_gateway.timeline import STOPPED, Attempt as Record, Timeline

log = structlog.get_logger(__name__)

FAULTLESS: Final = frozenset(
    {
        Code.UPSTREAM_OVERLOADED,
        Code.UPSTREAM_REFUSED,
        Code.CONTEXT_LENGTH_EXCEEDED,
        Code.INVALID_OUTPUT,
    }
)
"""Failures that say nothing about the pod: it is busy, or any other would have said the same."""
NO_COHORTS: Final[frozenset[str]] = frozenset()
"""As `NOBODY`, shared by all: Python makes each empty set anew."""


@final
class Tries:
    """Those of one call. `close()` it in the end, whatever happened.

    Args:
        backends: who can be asked.
        ask: what.
        timeline: gets a record of each attempt.
        now: when the call begins.
    """

    __slots__ = (
        "_allowance",
        "_ask",
        "_backends",
        "_count",
        "_failure",
        "_pods",
        "_refused",
        "_rested",
        "_retrying",
        "_spent",
        "_traffic",
        "hedge_at",
        "last",
        "open_at",
        "running",
        "timeline",
    )

    def __init__(self, backends: Backends, ask: Ask, timeline: Timeline, now: float) -> None:
        self._backends = backends
        self._pods = backends.pods
        self._ask = ask
        self._allowance = ask.allowance
        self.timeline = timeline
        self._traffic = traffic = backends.traffics.of(ask.pool)

        self.running: list[Attempt] = []  # two while a hedge runs
        self.last: Attempt | None = None
        """The attempt that gave the answer, or the newest."""
        self.open_at = now
        """Nobody is asked before."""
        self.hedge_at = inf
        """When a second pod is asked, if nothing has come."""
        self._count = 0  # of those that count
        self._refused = NOBODY  # asked, and failed
        self._spent = NO_COHORTS  # cohorts that took time and gave nothing
        self._failure: Failed | None = None  # of the last one that counts
        self._rested = True  # a connection that has rested may be used
        self._retrying = bool(ask.avoid)  # counted among the model's retries

        traffic.active += 1
        if self._retrying:
            traffic.retrying += 1
        hedging = ask.hedging
        if hedging is not None and not ask.deadline.background:
            traffic.earn(hedging)
            wait = hedging.seconds
            if hedging.percentile is not None:
                wait = traffic.first_text.percentile(hedging.percentile, now)
            if wait is not None:  # else nobody knows what is late
                self.hedge_at = now + wait

    def close(self) -> None:
        self._traffic.active -= 1
        self._retries_no_more()

    # Asking

    def open(self, now: float, on_news: Callable[[], None]) -> Failed | None:
        """Ask a pod. `Failed`: there is none, or no time; what was said before says more."""
        if not self._fits(now):
            return self._failure or TOO_SHORT
        if (no := self._overdrawn()) is not None:
            return self._failure or Failed(no)
        pod = self._choose(now)
        if pod is None:
            return self._failure or Failed(NOT_READY)
        self._try(pod, now, on_news, hedge=False)
        return None

    def hedge(self, now: float, on_news: Callable[[], None]) -> None:
        """Ask a second pod, if there is one and enough requests went without."""
        self.hedge_at = inf
        if self._count != 1 or len(self.running) != 1 or not self._fits(now):
            return
        if self.running[0].holding:
            return
        if self._allowance is not None and not self._allowance.covers(self._ask.task):
            return
        pod = self._choose(now)
        if pod is not None and now >= pod.ejected_until and self._traffic.spend():
            self._try(pod, now, on_news, hedge=True)

    def _try(self, pod: Pod, now: float, on_news: Callable[[], None], *, hedge: bool) -> None:
        ask, attempts = self._ask, self.timeline.attempts
        record = Record(pod.name, ask.cohorts[pod.cohort], hedge, now, span=new_span_id())
        attempts.append(record)
        task = ask.task
        if self._allowance is not None:
            task = self._allowance.grant(task)
            record.granted = task.sampling.max_tokens
        attempt = Attempt(
            backends=self._backends,
            call_id=f"{ask.id}-{len(attempts)}",
            pod=pod,
            task=task,
            left_ms=max(1, int((ask.deadline.stop_at - now) * 1000)),
            headers=ask.trace.lines(record.span),
            record=record,
            on_news=on_news,
        )
        self.running.append(attempt)
        self._count += 1
        if self.last is None or not hedge:
            self.last = attempt
        attempt.start(rested=self._rested)

    def _overdrawn(self) -> Refusal | None:
        """Say no where the request may not ask once more."""
        return None if self._allowance is None else self._allowance.refuses(self._ask.task)

    def _fits(self, now: float, pause: float = 0.0) -> bool:
        """Tell whether half of such calls lately took no longer than there is time."""
        left = self._ask.deadline.stop_at - now - pause
        pace = self._traffic.whole if self._ask.plain else self._traffic.first_text
        usual = pace.percentile(50, now)
        return left > 0 if usual is None else left >= usual

    def _choose(self, now: float) -> Pod | None:
        """Choose another pod than those that failed, and another cohort where that saves time."""
        ask, last = self._ask, self.last
        if last is None:
            if ask.prefers is not None:
                first = self._pods.ready(ask.pool, ask.prefers.cohorts)
                pod = self._pods.pick(first, now, avoid=ask.avoid)
                if pod is not None and now >= pod.ejected_until:
                    return pod
            return self._pods.pick(self._pods.ready(ask.pool, ask.cohorts), now, avoid=ask.avoid)
        pods = self._pods.ready(ask.pool, ask.cohorts.keys() - self._spent)
        if not pods and self._spent:
            pods = self._pods.ready(ask.pool, self._spent)
        busy = self._refused | {attempt.pod for attempt in self.running}
        pod = self._pods.pick(pods, now, avoid=busy)
        if pod is None and last.pod in pods:
            # The only pod: a new connection, or a pause, may do.
            return last.pod if last.kind not in COSTLY and not self.running else None
        return pod

    # Endings

    def won(self, winner: Attempt, now: float) -> None:
        """The client may see what has come: no other attempt matters any more."""
        record = winner.record
        record.first_text = now
        self._traffic.first_text.add((winner.spoke or now) - record.started, now)
        self._retries_no_more()  # it was worth it, and makes room for others
        self.last = winner
        if len(self.running) > 1:
            for attempt in tuple(self.running):
                if attempt is not winner:
                    self._leave(attempt, "hedge_lost", now)

    def answered(self, attempt: Attempt, usage: Usage, now: float) -> None:
        """The answer is complete."""
        ask = self._ask
        attempt.pod.answered(now)
        if ask.prefers is not None:
            seconds = None if attempt.spoke is None else now - attempt.spoke
            ask.prefers.answered(attempt.cohort, usage, load=attempt.load, seconds=seconds)
        self._leave(attempt, "ok", now)
        if ask.plain:
            self._traffic.whole.add(now - attempt.record.started, now)

    def failed(self, attempt: Attempt, failed: Failed, now: float, *, shown: bool) -> Failed | None:
        """Give up an attempt. None: another one goes on, or will.

        `shown`: the client may have seen something of its answer.
        """
        code = failed.refusal.code
        stale = attempt.stale and not shown and self._rested
        self._leave(attempt, "stale" if stale else code, now)
        if stale:
            self._rested, self._count = False, self._count - 1
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
        self._refused |= {attempt.pod}
        if attempt.kind in COSTLY:
            self._spent |= {attempt.cohort.name}
        if self.running:
            return None  # the other one may still answer
        if attempt.retry_after is not None:
            failed = Failed(replace(failed.refusal, retry_after=attempt.retry_after))
        self._failure = failed
        return None if not shown and self._may_retry(attempt, now) else failed

    def leave_all(self, result: str, now: float) -> None:
        for attempt in tuple(self.running):
            self._leave(attempt, result, now)

    def _may_retry(self, attempt: Attempt, now: float) -> bool:
        policy, traffic = self._ask.retries, self._traffic
        if attempt.kind not in policy.retry_on or self._count >= policy.max_attempts:
            return False
        if not traffic.may_retry(policy, already=self._retrying) or self._overdrawn() is not None:
            return False
        pause = backoff(policy, self._count, random.random())  # noqa: S311 - jitter
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
        self.open_at = now + pause
        return True

    def _retries_no_more(self) -> None:
        if self._retrying:
            self._retrying = False
            self._traffic.retrying -= 1

    def _leave(self, attempt: Attempt, result: str, now: float) -> None:
        self.running.remove(attempt)
        attempt.leave(result, now)
        if self._allowance is None:
            return
        task, usage = self._ask.task, attempt.usage
        if result != "ok" and not usage.output_tokens:
            # Who was stopped in silence has read the prompt, or was about to.
            usage = Usage(task.input_tokens if attempt.asked and result in STOPPED else 0, 0)
        self._allowance.settle(task, attempt.record.granted, usage, asked=result != "stale")
