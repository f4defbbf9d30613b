"""A scheduler on a thread of its own, with a real clock."""

import os
import signal
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Final, Protocol, TypeAlias

from simulated_llm.answer import Answer
from simulated_llm.scheduler import Counts, Event, Scheduler, Sequence
from simulated_llm.settings import Model

PUBLISH_EVERY: Final = 0.1  # s, as the C++ backend's stats_check_period_ms
QUEUE_CHECK_EVERY: Final = 0.5  # s; asking about each of hundreds in the queue costs the batch time


class Client(Protocol):
    """Whoever asked. The engine's thread alone calls it, and not after a last token or failure."""

    request_id: str

    def token(self, progress: "Progress", *, last: bool) -> None: ...

    def fail(self, message: str) -> None: ...

    def cancel(self) -> None: ...

    def expire(self) -> None: ...

    def left(self) -> bool:
        """Tell whether nobody waits for the answer any more."""


Progress: TypeAlias = Sequence[Client]


class Engine:
    """Runs sequences to their end."""

    def __init__(self, model: Model, publish: Callable[[Counts], None]) -> None:
        self._scheduler: Scheduler[Client] = Scheduler(model)
        self._publish = publish
        self._cancellation_check_s = model.settings.cancellation_check_ms / 1000
        self._changed = threading.Condition()
        self._cancelled: list[Progress] = []
        self._running = True
        self._next_publish = self._next_check = self._next_queue_check = 0.0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Sequences that are left fail."""
        with self._changed:
            self._running = False
            self._changed.notify()
        self._thread.join()

    def submit(self, client: Client, answer: Answer, seconds: float = inf) -> bool:
        """Take a request that may take so many seconds. False: the queue is full."""
        now = time.monotonic()
        with self._changed:
            taken = self._scheduler.submit(Sequence(client, answer, expires=now + seconds), now)
            self._changed.notify()
        return taken

    def cancel(self, request_id: str) -> None:
        """End the requests of this id that are here now, within an iteration."""
        with self._changed:
            here = (*self._scheduler.active, *self._scheduler.waiting)
            self._cancelled += [each for each in here if each.client.request_id == request_id]
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._scheduler.idle:
                    self._publish(self._scheduler.counts())
                    self._changed.wait_for(lambda: not self._scheduler.idle or not self._running)
                if not self._running:
                    break
                now = time.monotonic()
                step = self._scheduler.begin(now)
                if step is None:
                    due = self._scheduler.next_due() - now
                    self._changed.wait(min(due, self._cancellation_check_s))
                counts = self._scheduler.counts()
            self._publish_sometimes(counts)
            if step is not None:
                time.sleep(step)
                with self._changed:
                    out = self._scheduler.finish(time.monotonic())
                for sequence, event in out:
                    _tell(sequence, event)
            now = time.monotonic()
            self._drop_those_out_of_time(now)
            self._drop_those_who_left(now)
        for sequence in (*self._scheduler.active, *self._scheduler.waiting):
            sequence.client.fail("the model is unloading")

    def _publish_sometimes(self, counts: Counts) -> None:
        now = time.monotonic()
        if now >= self._next_publish:
            self._next_publish = now + PUBLISH_EVERY
            self._publish(counts)

    def _drop_those_out_of_time(self, now: float) -> None:
        with self._changed:
            over = self._scheduler.expire(now)
        for sequence in over:
            sequence.client.expire()

    def _drop_those_who_left(self, now: float) -> None:
        with self._changed:
            gone, self._cancelled = self._cancelled, []
            active, waiting = tuple(self._scheduler.active), tuple(self._scheduler.waiting)
        if now >= self._next_check:
            self._next_check = now + self._cancellation_check_s
            gone += [each for each in active if each.client.left()]
        if now >= self._next_queue_check:
            self._next_queue_check = now + QUEUE_CHECK_EVERY
            gone += [each for each in waiting if each.client.left()]
        for sequence in dict.fromkeys(gone):
            with self._changed:
                was_here = self._scheduler.drop(sequence)
            if was_here:
                sequence.client.cancel()


def _tell(sequence: Progress, event: Event) -> None:
    match event:
        case Event.NEXT:
            sequence.client.token(sequence, last=False)
        case Event.LAST:
            sequence.client.token(sequence, last=True)
        case Event.FAILURE:
            sequence.client.fail(f"simulated failure after {sequence.sent} tokens")
        case Event.DEATH:
            # SIGKILL, as the kernel does when memory runs out: nobody gets to say goodbye.
            os.kill(os.getpid(), signal.SIGKILL)
