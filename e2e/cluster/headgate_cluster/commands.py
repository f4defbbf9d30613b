"""Commands with a deadline, conditions with a deadline, and errors that show the last words."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from headgate_cluster.errors import ClusterError
from headgate_cluster.files import tail

Value = TypeVar("Value")

TIED: Final = ("setpriv", "--pdeathsig", "KILL", "--")
"""Before a command: the kernel kills it when the thread that started it ends, however that ends."""


def say(text: str) -> None:
    """Tell the user about a step. Standard output is left to what a script may want to read."""
    print(f"headgate: {text}", file=sys.stderr, flush=True)


def search_path() -> str:
    """Return PATH with the system folders that an ordinary user's PATH may lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PATH": search_path(), **more}


def run(
    *argv: str | Path, stdin: str | None = None, seconds: float = 60, cwd: Path | None = None
) -> str:
    """Run a short command and return what it printed.

    Raises:
        ClusterError: it ended badly or not in time; the message has its last lines.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            cwd=cwd,
            env=environment(),
            timeout=seconds,
            text=True,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{_shown(words)} did not end in {seconds:.0f} s") from error
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise ClusterError(f"{_shown(words)} ended with {done.returncode}:\n{last}")
    return done.stdout


def run_long(
    *argv: str | Path,
    what: str,
    log: Path,
    seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a long command into a log; every quarter of a minute one line says that it lives."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in argv]
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=environment(**(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            while (status := _ended(process, 15)) is None:
                spent = time.monotonic() - began
                last = tail(log, 1).strip()[:80]
                say(f"{what}: {spent:.0f} s{', ' + last if last else ''}")
                if spent > seconds:
                    raise ClusterError(f"{what} took more than {seconds:.0f} s:\n{tail(log)}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if status:
        raise ClusterError(f"{what}: {_shown(words)} ended with {status}:\n{tail(log)}")


def until(
    condition: Callable[[], Value],
    what: str,
    *,
    seconds: float,
    every: float = 0.05,
    last_words: Callable[[], str] = str,
) -> Value:
    """Wait until a condition returns something true, and return that.

    An OSError or ClusterError of the condition means "not yet": servers refuse while they start.

    Raises:
        ClusterError: the time is over; the message has the last error and `last_words()`.
    """
    end = time.monotonic() + seconds
    why = ""
    while True:
        try:
            if value := condition():
                return value
        except (OSError, ClusterError) as error:
            why = f" ({error})"
        if time.monotonic() > end:
            raise ClusterError(f"{what}: not in {seconds:.0f} s{why}\n{last_words()}".rstrip())
        time.sleep(every)


def _ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _shown(words: list[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= 160 else f"{text[:157]}..."
