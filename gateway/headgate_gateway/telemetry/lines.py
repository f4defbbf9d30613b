"""Lines of the log on their way out: requests never wait for whoever reads them.

Writing to a pipe blocks when its reader is slow, and a blocked event loop holds up every stream.
So a thread writes what has come together. Where it cannot keep up, lines are lost and counted:
a gateway without some of its log is better than one without answers.
"""

import os
import select
import threading
from typing import Final

FULL: Final = 64 * 1024
"""Bytes that are written without waiting for more."""
EVERY: Final = 0.1  # s from a line to its being written, at most
MOST: Final = 1024 * 1024
"""Bytes that may wait while others are being written."""


class Lines:
    """Writes to a file descriptor, from any thread, in order; no line is torn."""

    def __init__(
        self, fd: int, *, every: float = EVERY, full: int = FULL, most: int = MOST
    ) -> None:
        self._fd = fd
        self._every = every
        self._full = full
        self._most = most
        self._waiting = bytearray()
        self._count = 0  # of lines in it
        self._closing = False
        self._changed = threading.Condition(threading.Lock())
        self.lost = 0
        """Lines that nobody will see."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Let `line`, which ends with a line break, be written soon. Never waits."""
        with self._changed:
            before = len(self._waiting)
            after = before + len(line)
            if after > self._most or self._closing:
                self.lost += 1
                return
            self._waiting += line
            self._count += 1
            if before == 0 or after >= self._full > before:
                self._changed.notify()

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, but give up after `seconds`: a stuck reader must not keep a pod."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                self._changed.wait_for(self._due, self._every)
                data, count = self._waiting, self._count
                self._waiting, self._count = bytearray(), 0
                last = self._closing
            try:
                self._put(data)
            except OSError:  # nobody reads any more
                with self._changed:
                    self.lost += count
            if last:
                return

    def _due(self) -> bool:
        return len(self._waiting) >= self._full or self._closing

    def _put(self, data: bytearray) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody else made it so: it is shared with who started us
                select.select([], [self._fd], [])
