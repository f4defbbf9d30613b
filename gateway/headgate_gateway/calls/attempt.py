"""One try against one model server: from a connection to the last event of its answer."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Final, final

from headgate_api.snapshot import RetryOn
from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.adapters import ADAPTERS, GUESSING
from headgate_gateway.calls.ask import Backends
from headgate_gateway.calls.events import Event, Failed, Usage
from headgate_gateway.calls.failures import CUT
from headgate_gateway.calls.retry import KINDS
from headgate_gateway.calls.upstream import Lost, Upstream, dial
from headgate_gateway.routing.pods import Pod
from headgate_gateway.timeline import Attempt as Record

STALE: Final = 1.0
"""s. A connection that breaks later than this under a request had not been closed before it."""
LONGEST_WAIT: Final = 86_400.0
"""s; a model server that names more is not to be believed."""
LONGEST_ERROR: Final = 4096
"""Bytes of an error that are worth reading, and telling."""


@final
class Attempt:
    """Ask `poll()` whenever `on_news` was called; `leave()` at the end, whatever happened.

    Args:
        backends: how long to wait for a connection, and who tells model servers to stop.
        call_id: unique in the region.
        pod: whom to ask; it counts the attempt as in flight until `leave`.
        task: what to do.
        left_ms: time that is left for it.
        headers: header lines to pass on.
        record: the attempt as it is told about later.
        on_news: called when `poll` may have something to say.
    """

    __slots__ = (
        "_adapter",
        "_backends",
        "_connection",
        "_dialing",
        "_error",
        "_events",
        "_id",
        "_left",
        "_load",
        "_on_news",
        "_reader",
        "_request",
        "cohort",
        "heard",
        "kind",
        "pod",
        "record",
        "retry_after",
        "spoke",
        "stale",
    )

    def __init__(
        self,
        *,
        backends: Backends,
        call_id: str,
        pod: Pod,
        task: Task,
        left_ms: int,
        headers: bytes,
        record: Record,
        on_news: Callable[[], None],
    ) -> None:
        cohort = record.cohort
        adapter = (GUESSING if cohort.speculative else ADAPTERS)[cohort.runtime]

        # Looked at for every event, so in one place
        self._connection: Upstream | None = None
        self._events: list[Event] | None = None  # read, and not yet given: the last one comes first
        self._reader = adapter.reader(task)
        self.heard = record.started
        self.spoke: float | None = None  # when there was first something to read, held or not

        self._backends = backends
        self._id = call_id
        self.pod = pod
        self.cohort = cohort
        self.record = record
        self.stale = False  # lost on a connection that had rested: says nothing about the pod
        self.kind: RetryOn | None = None  # of the failure
        self.retry_after: float | None = None  # s, as the model server says
        self._adapter = adapter
        self._request = adapter.request(
            task,
            call_id=call_id,
            host=pod.address,
            served_model=cohort.served_model,
            left_ms=left_ms,
            headers=headers,
        )
        self._on_news = on_news
        self._error = b""  # body of an answer that is none
        self._dialing: asyncio.Task[Upstream] | None = None
        self._left = False
        pod.in_flight += 1
        self._load = pod.in_flight  # when it began

    def start(self, *, rested: bool) -> None:
        """Send the request, on a connection that has rested if there is one and it is allowed."""
        connection = self.pod.take() if rested else None
        if connection is not None:
            self._send(connection)
            return
        dialing = dial(self.pod.host, self.pod.port, self._backends.patience.connect)
        # Of no request: what others hear on this connection later must not be logged in our name.
        self._dialing = asyncio.get_running_loop().create_task(dialing, context=Context())
        self._dialing.add_done_callback(self._dialed)

    def poll(self, now: float) -> Event | None:
        """Take the next event, if there is one. After an `End` or a `Failed` nothing follows."""
        if self._events:
            return self._events.pop()
        connection = self._connection
        if connection is None:
            return self._dial_failure()
        while connection.fresh:
            try:
                data = connection.take()
            except Lost as error:
                fresh = now - self.record.started < STALE
                self.stale = error.early and connection.used and fresh
                return self._fail(CUT, "Reset", str(error))
            if data is None:
                return None
            self.heard = now
            if connection.status == 200:
                events = self._reader.feed(data) if data else self._reader.end()
            else:
                events = self._read_error(connection, data)
            if self.spoke is None and (events or self._reader.holding):
                self.spoke = now
            if events:
                last = events[-1]
                if isinstance(last, Failed):
                    self.kind = KINDS.get(last.refusal.code)
                if len(events) > 1:
                    self._events = list(events[:0:-1])
                return events[0]
        return None

    def leave(self, result: str, now: float) -> None:
        """Let go of the connection. An answer that is still being made is cancelled by that."""
        if self._left:
            return
        self._left = True
        self._on_news = _ignore  # it leads back here: no cycle is to keep both in memory
        self.pod.in_flight -= 1
        self.record.result, self.record.ended = result, now
        if result != "ok" and (usage := self._reader.usage).output_tokens:
            self.record.usage = usage
        if self._connection is None:
            if self._dialing is not None:
                self._dialing.cancel()
            return
        silent = self._connection.silent
        self.pod.give_back(self._connection)
        if silent:
            names = {"host": self.pod.address, "served_model": self.cohort.served_model}
            stop = self._adapter.stop(call_id=self._id, **names)
            if stop is not None:
                self._backends.stops.send(self.pod, stop)

    @property
    def ready(self) -> bool:
        """Whether `poll` has something to say, as far as a connection in mid-answer tells."""
        connection = self._connection
        return bool(self._events) or (connection is not None and connection.fresh)

    @property
    def holding(self) -> bool:
        """Whether the answer has begun, although nothing of it may be given yet."""
        return self._reader.holding

    @property
    def asked(self) -> bool:
        """Whether its request was sent."""
        return self._connection is not None

    @property
    def usage(self) -> Usage:
        """What the answer has cost so far."""
        return self._reader.usage

    @property
    def load(self) -> int:
        """Requests at its pod, from its begin until now: the mean of both, this one included."""
        return (self._load + self.pod.in_flight) // 2

    @property
    def said(self) -> str:
        """What the model server said went wrong: for our log, never for the client."""
        return (self._reader.error or self._error.decode("utf-8", "replace"))[:LONGEST_ERROR]

    # Sending

    def _dialed(self, dialing: asyncio.Task[Upstream]) -> None:
        if self._left:
            if not dialing.cancelled() and dialing.exception() is None:
                dialing.result().close()
        elif dialing.exception() is None:
            self._dialing = None  # a task takes 0.6 KB
            self._send(dialing.result())
        else:
            self._on_news()

    def _dial_failure(self) -> Failed | None:
        if self._dialing is None or not self._dialing.done():
            return None
        error = self._dialing.exception()
        if error is None:  # it was made just now, and `_dialed` is next to be called
            return None
        if isinstance(error, Lost):
            return self._fail(CUT, "Connect", str(error))
        raise error

    def _send(self, connection: Upstream) -> None:
        self._connection = connection
        connection.send(self._request, self._on_news)
        self._request = b""  # the prompt is in it

    # Reading

    def _read_error(self, connection: Upstream, data: bytes) -> tuple[Event, ...]:
        """Read an answer that is none, until it is whole or long enough."""
        self._error += data
        if data and len(self._error) < LONGEST_ERROR:
            return ()
        if (wait := connection.retry_after) is not None:
            self.retry_after = min(wait, LONGEST_WAIT)
        return (self._adapter.failure(self._error.decode("utf-8", "replace"), connection.status),)

    def _fail(self, failed: Failed, kind: RetryOn, said: str) -> Failed:
        self.kind, self._error = kind, said.encode()
        return failed


def _ignore() -> None:
    """Take news of an attempt that is over."""
