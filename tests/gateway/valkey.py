"""A real Valkey or Redis server on loopback."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headgate_cluster.commands import until
from headgate_cluster.packages import ensure
from headgate_cluster.processes import Server, free_ports


@contextmanager
def valkey() -> Iterator[tuple[str, Server]]:
    """Run one until the block ends: its URL, and the process. Installed from Debian if missing."""
    binary = shutil.which("valkey-server")
    if binary is None:
        ensure({"redis-server": "redis-server"})
        binary = "redis-server"
    (port,) = free_ports(1)
    options = ["--bind", "127.0.0.1", "--port", port, "--save", "", "--enable-debug-command", "yes"]
    with tempfile.TemporaryDirectory(prefix="headgate-valkey-") as folder:
        server = Server.start("valkey", binary, *map(str, options), folder=Path(folder))
        try:
            until(lambda: listening(port), "valkey", seconds=30, every=0.01)
            yield f"redis://127.0.0.1:{port}", server
        finally:
            server.stop()


def listening(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port)):
        return True
