"""What one client's connection may cost, and all of them together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    head_bytes: int = 32 * 1024
    url_bytes: int = 8 * 1024
    headers: int = 100
    body_bytes: int = 4 * 1024 * 1024
    bodies_bytes: int = 128 * 1024 * 1024  # of all clients together, until they are answered
    ahead_bytes: int = 64 * 1024  # sent ahead while a request is in work
    write_bytes: int = 64 * 1024  # not yet taken by the client; the kernel holds as much again
    head_seconds: float = 10.0  # for all of it, and for a TLS handshake
    body_seconds: float = 30.0  # for all of it, and more for what has come:
    body_rate: int = 16 * 1024  # each second more for so many bytes
    idle_seconds: float = 75.0  # between two requests
    send_seconds: float = 60.0  # in which a client takes `send_bytes` of what waits for it
    send_bytes: int = 16 * 1024
    linger_seconds: float = 2.0  # that a refused client gets to read why
    connections: int = 10_000

    @property
    def tick(self) -> float:
        """How often the clocks of all connections are looked at, in s."""
        shortest = min(
            self.head_seconds,
            self.body_seconds,
            self.idle_seconds,
            self.send_seconds,
            self.linger_seconds,
        )
        return min(1.0, shortest / 4)
