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
    write_bytes: int = 64 * 1024  # not yet taken by the client
    head_seconds: float = 10.0  # for all of it
    body_seconds: float = 30.0  # between two pieces
    idle_seconds: float = 75.0  # between two requests
    send_seconds: float = 60.0  # without the client taking anything
    linger_seconds: float = 2.0  # that a refused client gets to read why
    connections: int = 10_000
