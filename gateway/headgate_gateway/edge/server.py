"""A port: who is connected, and how it all comes to an end."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from headgate_api.errors import TerminalError
from headgate_gateway.edge.connection import Connection
from headgate_gateway.edge.exchange import Exchange, Head
from headgate_gateway.edge.familiar import Familiar
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.messages import Bodies
from headgate_gateway.edge.wire import Date
from headgate_gateway.refusals import Refusal

Handler: TypeAlias = Callable[[Exchange], Coroutine[Any, Any, None]]
BACKLOG: Final = 2048


class Edge:
    """Accepts connections and hands their requests to `handle`.

    Args:
        handle: answers an exchange; it must not raise.
        limits: what one connection may cost.
        ids: names the requests.
        refused: is told of refusals that never became an exchange.
        admit: looks at a head whose body takes its time, before more of the body is kept.
        name: what an error calls the port.
    """

    def __init__(
        self,
        handle: Handler,
        limits: Limits,
        *,
        ids: Callable[[], str],
        refused: Callable[[Refusal], None],
        admit: Callable[[Head], Refusal | None] = lambda head: None,
        name: str = "port",
    ) -> None:
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._timer: asyncio.TimerHandle | None = None
        self.handle = handle
        self.limits = limits
        self.ids = ids
        self.refused = refused
        self.admit = admit
        self._name = name
        self.date = Date()
        self.draining = False
        self.bodies = Bodies(limits.bodies_bytes)
        self.familiar = Familiar()
        self.port = 0
        """Once it listens."""

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def listen(self, host: str | None, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Take the port. Raises `TerminalError`."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self),  # type: ignore[arg-type,return-value]
                host,
                port,
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=self.limits.head_seconds if tls else None,
                ssl_shutdown_timeout=self.limits.linger_seconds if tls else None,
            )
        except OSError as error:
            raise TerminalError(f"the {self._name} {port} cannot be used: {error}") from error
        for sock in self._server.sockets:
            # Every connection inherits it. Else the kernel would take megabytes for a client that
            # reads slowly, and nobody could see that it does.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self.limits.write_bytes)
        self.port = self._server.sockets[0].getsockname()[1]

    def joined(self, connection: Connection) -> bool:
        """Count a new connection. False: there are too many."""
        if len(self._connections) >= self.limits.connections:
            return False
        if not self._connections:
            self._tick()
        self._connections.add(connection)
        self._empty.clear()
        return True

    def left(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _tick(self) -> None:
        """Look at every connection's clock, as long as there are any."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.limits.tick, self._tick)
        now = loop.time()
        for connection in [one for one in self._connections if one.until <= now]:
            connection.late()

    def drain(self) -> None:
        """Still accept, but ask every client to go elsewhere with its next request."""
        self.draining = True

    def close_listener(self) -> None:
        """Accept nobody any more, and let those go that ask for nothing."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            if connection.idle:
                connection.close()

    async def emptied(self, seconds: float | None = None) -> bool:
        """Wait until the last client has gone, and what goes on without one has ended.

        False: that took longer than `seconds`.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def abort(self) -> None:
        for connection in list(self._connections):
            connection.drop()
