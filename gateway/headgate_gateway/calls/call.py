"""One client's call on the model servers: a pod, a second one if the first never answered, events.

The second try is safe because it is made only while not one byte of an answer has come: nobody has
seen anything, and a model server that took the request and died has nothing to show for it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from headgate_api.snapshot import Cohort
from headgate_gateway.calls import sse
from headgate_gateway.calls.events import WAITING, End, Event, Failed, Text, Waiting
from headgate_gateway.calls.triton import (
    ADAPTERS,
    CUT,
    INVALID,
    OVERLOADED,
    Reader,
    Sampling,
    failure,
    request_bytes,
)
from headgate_gateway.calls.upstream import Lost, Upstream, dial
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.routing.pods import Pod, Pods, Pool

log = structlog.get_logger(__name__)

LONGEST_ERROR: Final = 4096
"""Bytes of an error that are worth reading, and telling."""
SILENT: Final = Failed(
    Refusal(Code.UPSTREAM_TIMEOUT, 504, "The model server stayed silent for too long.")
)
NOT_READY: Final = Refusal(
    Code.MODEL_NOT_READY, 503, "No replica of this model is ready.", retry_after=5
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a call waits for what, in s."""

    connect: float = 2.0
    first_token: float = 300.0  # queueing and reading the prompt included
    idle: float = 60.0  # between two tokens
    beat: float = 15.0  # between two signs of life


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What to ask, and whom."""

    pool: Pool
    cohorts: Sequence[Cohort]
    prompt: str
    sampling: Sampling
    trace: bytes = b""  # header lines to pass on


class Call:
    """Ask `next()` until it gives `End` or `Failed`, then `close()`, whatever happened."""

    def __init__(self, pods: Pods, ask: Ask, patience: Patience) -> None:
        self._pods = pods
        self._ask = ask
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._stopped: Refusal | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False  # text has come
        self._heard = self._loop.time()

        # Of the attempt
        self.attempts = 0
        self.pod: Pod | None = None
        self.cohort: Cohort | None = None
        self._reused = False  # its connection had answered before
        self._rested = True  # such a connection may still be used
        self._losses = 0  # on connections of our own
        self._connection: Upstream | None = None
        self._decoder = sse.Decoder()
        self._reader: Reader
        self._error = b""  # body of an answer that is none
        self._ending: End | Failed | None = None

    async def next(self) -> Event:
        """Wait for the next event. All text that has come meanwhile is one `Text`."""
        while True:
            if self._stopped is not None:
                self._leave()
                return Failed(self._stopped)
            if self._ending is not None:
                return self._ending
            try:
                if self._connection is None:
                    no = await self._open()
                    if no is not None:
                        return no
                    continue
                data = await self._connection.read()
            except Lost as error:
                if self._may_ask_again(error):
                    continue
                return CUT
            if data is not None:
                event = self._take(data)
                if event is not None:
                    return event
            elif self._stopped is None:
                return self._quiet()

    def stop(self, refusal: Refusal) -> None:
        """Let the call fail with `refusal`, now."""
        self._stopped = refusal
        if self._connection is not None:
            self._connection.wake()

    def close(self) -> None:
        """Let go of everything. An answer still being made is cancelled."""
        if self._timer is not None:
            self._timer.cancel()
        self._leave()

    # Attempts

    async def _open(self) -> Failed | None:
        """Send the request to a pod."""
        pod = self._choose()
        if pod is None:
            return Failed(NOT_READY) if self.pod is None else CUT
        cohort = next(c for c in self._ask.cohorts if c.name == pod.cohort)
        adapter = ADAPTERS[cohort.runtime]
        self.attempts += 1
        self.pod, self.cohort = pod, cohort
        self._reader = adapter.reader(self._ask.prompt, self._ask.sampling)
        pod.in_flight += 1
        connection = pod.take() if self._rested else None
        self._reused = connection is not None
        if connection is None:
            try:
                connection = await dial(pod.host, pod.port, self._patience.connect)
            except BaseException:
                pod.in_flight -= 1
                raise
        self._connection = connection
        fields = adapter.fields(self._ask.prompt, self._ask.sampling)
        host = f"[{pod.host}]" if ":" in pod.host else pod.host
        address = f"{host}:{pod.port}"
        connection.send(request_bytes(address, cohort.served_model, fields, self._ask.trace))
        if self._timer is None:
            self._watch()
        return None

    def _choose(self) -> Pod | None:
        names = [cohort.name for cohort in self._ask.cohorts]
        ready = self._pods.ready(self._ask.pool, names)
        pod = self._pods.pick(ready, self._loop.time(), avoid=self.pod)
        if pod is None and self.pod in ready and self._reused:
            # The only pod closed a connection that had rested; a new one may do.
            return self.pod
        return pod

    def _may_ask_again(self, error: Lost) -> bool:
        """Give up the attempt; say whether there may be another one.

        A connection that had rested may be stale, which says nothing about its pod: that costs no
        try, but happens once only.
        """
        assert self.pod is not None  # noqa: S101 - it was lost
        if error.early and self._reused:
            self._rested, again = False, True
        else:
            self._losses += 1
            self.pod.failed(self._loop.time())
            again = error.early and self._losses == 1
        log.warning("model server lost", pod=self.pod.name, error=str(error), again=again)
        self._leave()
        return again

    def _leave(self) -> None:
        if self._connection is None:
            return
        assert self.pod is not None  # noqa: S101 - a connection has one
        self.pod.in_flight -= 1
        self.pod.give_back(self._connection)
        self._connection = None

    # What comes

    def _take(self, data: bytes) -> Event | None:
        assert self._connection is not None  # noqa: S101 - it gave us the data
        self._heard = self._loop.time()
        status = self._connection.status
        text, ending = self._read(data) if status == 200 else ("", self._read_error(data, status))
        if ending is not None:
            self._ending = self._finished(ending)
        if not text:
            return self._ending
        if not self._begun:
            self._begun = True
            self._watch()  # from now on for the time between tokens
        return Text(text)

    def _read(self, data: bytes) -> tuple[str, End | Failed | None]:
        """Read a piece of a stream: the new text in it, and the end if it has come."""
        if not data:
            return "", self._reader.end() if self._decoder.whole else INVALID
        text: list[str] = []
        try:
            for reply in self._decoder.feed(data):
                event = self._reader.read(reply)
                if isinstance(event, Failed):
                    return "".join(text), event
                if event is not None:
                    text.append(event.text)
        except sse.Malformed:
            return "", INVALID
        return "".join(text), None

    def _read_error(self, data: bytes, status: int) -> Failed | None:
        self._error += data
        if data and len(self._error) < LONGEST_ERROR:
            return None
        return failure(self._error.decode("utf-8", "replace"), status)

    def _finished(self, ending: End | Failed) -> End | Failed:
        assert self.pod is not None  # noqa: S101 - somebody sent it
        if isinstance(ending, End):
            self.pod.answered()
        else:
            code = ending.refusal.code
            said = (self._reader.error or self._error.decode("utf-8", "replace"))[:LONGEST_ERROR]
            log.warning("model server failed", pod=self.pod.name, code=code, error=said)
            if ending is not OVERLOADED:  # a pod that is busy is not one that fails
                self.pod.failed(self._loop.time())
        self._leave()
        return ending

    # Silence

    def _quiet(self) -> Waiting | Failed:
        """Nothing came, yet it is time to look."""
        if self._silence_left() > 0:
            return WAITING
        self._ending = self._finished(SILENT)
        return SILENT

    def _silence_left(self) -> float:
        limit = self._patience.idle if self._begun else self._patience.first_token
        return self._heard + limit - self._loop.time()

    def _watch(self) -> None:
        """Look after the call now and then: cheaper than a timeout around every token."""
        if self._timer is not None:
            self._timer.cancel()
        left = self._silence_left()
        seconds = min(self._patience.beat, left) if left > 0 else self._patience.beat
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        if self._connection is not None:
            self._connection.wake()
        self._watch()
