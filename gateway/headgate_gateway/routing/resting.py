"""A pod's connections that nobody uses at the moment."""

import asyncio
from typing import Final, final

from headgate_gateway.calls.upstream import Upstream

LONGEST: Final = 4.0
"""Seconds without a request, after which a connection is closed. Shorter than the 5 s after which
`trtllm-serve` closes it: else a request could be sent into a connection that is just being closed.
"""
MOST: Final = 128
"""More than that are left over from a rush."""


@final
class Resting:
    """Keeps connections in the order in which they were given back."""

    def __init__(self) -> None:
        self._connections: list[Upstream] = []
        self._timer: asyncio.TimerHandle | None = None  # set while there may be any
        self._loop: asyncio.AbstractEventLoop  # once there were

    def __len__(self) -> int:
        return len(self._connections)

    def take(self) -> Upstream | None:
        """Take the one that was used last: it is the least likely to be stale."""
        while self._connections:
            connection = self._connections.pop()
            if connection.usable:
                return connection
        return None

    def put(self, connection: Upstream) -> None:
        """Keep a connection that is usable, unless there are enough."""
        if len(self._connections) >= MOST:
            connection.close()
            return
        if self._timer is None:
            self._loop = asyncio.get_running_loop()  # a call of the kernel
            self._timer = self._loop.call_later(LONGEST, self._retire)
        connection.on_lost = self._forget
        connection.rests_since = self._loop.time()
        self._connections.append(connection)

    def close(self) -> None:
        """Close all."""
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _retire(self) -> None:
        """Close those that have rested for too long, and come back for the next one."""
        now = self._loop.time()
        late = [one for one in self._connections if one.rests_since + LONGEST <= now]
        self._connections = self._connections[len(late) :]
        for connection in late:
            connection.close()
        self._timer = None
        if self._connections:
            due = self._connections[0].rests_since + LONGEST
            self._timer = self._loop.call_at(due, self._retire)

    def _forget(self, connection: Upstream) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
