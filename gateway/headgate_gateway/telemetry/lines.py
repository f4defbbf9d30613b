"""Lines of the log on their way out: requests never wait for whoever reads them.

Writing to a pipe blocks when its reader is slow, and a blocked event loop holds up every stream.
So a thread writes what has come together. Where it cannot keep up, lines are lost and counted:
a gateway without some of its log is better than one without answers.
"""

import os
import select
import threading
from math import inf
from typing import Final

FULL: Final = 256 * 1024
"""Bytes that are written without waiting for more."""
EVERY: Final = 0.1  # s from a line to its being written, at most
MOST: Final = 2 * 1024 * 1024
"""Bytes that may wait while others are being written."""


class Lines:
    """Writes to a file descriptor, from any thread, in order; no line is torn.

    The thread wakes seldom, and holds the interpreter's lock twice for each piece that it writes:
    the event loop pays for every time that somebody wants it.
    """

    def __init__(
        self, fd: int, *, every: float = EVERY, full: int = FULL, most: int = MOST
    ) -> None:
        self._fd = fd
        self._every = every
        self._full = full
        self._most = most
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._count = 0  # of lines in it
        self._closing = False
        self._wakes_at = inf  # bytes that wake the thread
        self._asleep = threading.Lock()
        """Let go of by whoever wakes the thread."""
        self._asleep.acquire()
        self.lost = 0
        """Lines that nobody will see."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Let `line`, which ends with a line break, be written soon. Never waits."""
        with self._lock:
            size = len(self._waiting) + len(line)
            if size > self._most or self._closing:
                self.lost += 1
                return
            self._waiting += line
            self._count += 1
            if size >= self._wakes_at:
                self._wake()

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, but give up after `seconds`: a stuck reader must not keep a pod."""
        with self._lock:
            self._closing = True
            if self._wakes_at < inf:
                self._wake()
        self._thread.join(seconds)

    def _wake(self) -> None:
        self._wakes_at = inf
        self._asleep.release()

    def _run(self) -> None:
        busy = last = False
        while not last:
            if not busy:
                self._sleep(1, -1)
            self._sleep(self._full, self._every)
            busy, last = self._pass_on()

    def _pass_on(self) -> tuple[bool, bool]:
        """Write what waits, and keep none of it. Tells if there was any, and if it was the last."""
        with self._lock:
            data, count = self._waiting, self._count
            self._waiting, self._count = bytearray(), 0
            last = self._closing
        try:
            self._put(data)
        except OSError:  # nobody reads any more
            with self._lock:
                self.lost += count
        return count > 0, last

    def _sleep(self, size: int, seconds: float) -> None:
        """Wait for so many bytes, for `seconds` at most; -1: for ever."""
        with self._lock:
            if self._closing or len(self._waiting) >= size:
                return
            self._wakes_at = size
        self._asleep.acquire(timeout=seconds)
        with self._lock:
            self._wakes_at = inf
            self._asleep.acquire(blocking=False)  # somebody may have come just too late

    def _put(self, data: bytearray) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody else made it so: it is shared with who started us
                select.select([], [self._fd], [])
