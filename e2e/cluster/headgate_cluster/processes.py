"""Server processes on loopback that end with us, and the little that one asks of them."""

import os
import signal
import socket
import ssl
import subprocess
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headgate_cluster.commands import TIED, environment, until
from headgate_cluster.errors import ClusterError
from headgate_cluster.files import tail


@dataclass(slots=True)
class Server:
    """One server process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, name: str, *argv: str | Path, folder: Path, **env: str) -> "Server":
        """Start a server that the kernel kills when the *thread* that called us ends.

        A test run that is killed leaves no server behind (PR_SET_PDEATHSIG, set by setpriv).
        """
        log = folder / f"{name}.log"
        words = (*TIED, *map(str, argv))
        with log.open("ab") as out:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=environment(**env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # so that stop() reaches its children too
            )
        return cls(name, process, log)

    def wait_for(self, url: str, *, seconds: float, trust: ssl.SSLContext | None = None) -> None:
        """Wait until the URL answers 200; at once an error if the process has ended."""
        until(
            lambda: self.process.poll() is not None or answers(url, trust),
            f"{self.name} at {url}",
            seconds=seconds,
            every=0.03,
            last_words=lambda: tail(self.log),
        )
        if self.process.poll() is not None:
            raise ClusterError(f"{self.name} ended at its start:\n{tail(self.log)}")

    def freeze(self) -> None:
        """Let it hold its connections and answer nothing, as a machine that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self, seconds: float = 0) -> None:
        """End it: politely if it gets seconds for that, and in any case."""
        if seconds:
            self.thaw()
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def answers(url: str, trust: ssl.SSLContext | None = None) -> bool:
    """Tell whether a URL answers 200; anything else is an OSError."""
    with urllib.request.urlopen(url, timeout=5, context=trust) as answer:  # noqa: S310 - ours
        return bool(answer.status == 200)


def free_ports(number: int) -> list[int]:
    """Return ports of loopback that nobody listens on now; all at once, so that they differ."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
