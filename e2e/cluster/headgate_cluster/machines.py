"""A machine: a process tree in its own pid, mount, network, uts and ipc namespaces.

When process 1 of the tree dies, however it dies, the kernel kills every process of the tree, drops
every mount that was made in it and deletes its end of every link. That is what makes `down`
complete, and lets `up` heal a set whose processes were all killed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from headgate_cluster.commands import environment, run, until
from headgate_cluster.errors import ClusterError
from headgate_cluster.files import tail, write

START_SECONDS: Final = 30.0
END_SECONDS: Final = 60.0  # the kernel waits for the last process of a machine to leave a disk wait


def start(
    folder: Path, argv: Sequence[str | Path], *, hostname: str, binds: Mapping[str, Path]
) -> int:
    """Start argv as process 1 of a machine, unless it runs; return its pid as seen from here.

    Args:
        folder: holds the machine's pid file, its log, and its `run/`, which starts empty as /run
            does after a reboot.
        argv: what to run.
        hostname: of the machine, and how its processes can be recognised.
        binds: path inside the machine -> folder that stands there.
    """
    if pid := read_pid(folder):
        return pid
    shutil.rmtree(folder / "run", ignore_errors=True)
    log = folder / "init.log"
    entry = {
        "hostname": hostname,
        "argv": [str(word) for word in argv],
        "binds": {target: str(source) for target, source in binds.items()},
    }
    write(folder / "entry.json", json.dumps(entry))
    with log.open("ab") as out:
        subprocess.run(
            [
                *("setsid", "--fork"),  # the machine is nobody's child: it outlives us
                *("unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork"),
                *("--kill-child=KILL", "--", sys.executable, "-m", __spec__.name, str(folder)),
            ],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=True,
        )
    until(
        lambda: _entered(folder),
        f"start of machine {hostname}",
        seconds=START_SECONDS,
        every=0.02,
        last_words=lambda: tail(log),
    )
    if (pid := read_pid(folder)) is None:
        raise ClusterError(f"machine {hostname} ended at its start:\n{tail(log)}")
    return pid


def read_pid(folder: Path) -> int | None:
    """Return the pid of a machine's process 1 if it is alive; a pid that was reused is not it."""
    try:
        pid, started = (folder / "pid").read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if _start_time(Path("/proc", pid)) == started else None


def kill(folder: Path) -> None:
    """End a machine at once and wait until the kernel has taken it down."""
    if pid := read_pid(folder):
        os.kill(pid, signal.SIGKILL)
        until(lambda: read_pid(folder) is None, f"end of {folder.name}", seconds=END_SECONDS)


def tree(pid: int) -> list[int]:
    """Return process 1 of a machine and all below it: orphans too are its children by then."""
    children: dict[int, list[int]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(process.name))
    found = [pid]
    for each in found:
        found += children.get(each, ())
    return found


def strays(state: Path) -> list[int]:
    """Find machines of a state folder by their command lines, whatever the pid files say."""
    mark = [__spec__.name.encode(), str(state).encode()]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if all(word in command for word in mark):
            found.append(int(process.name))
    return found


def inside(pid: int, *argv: str | Path) -> list[str]:
    """Return the command that runs argv in all namespaces of a machine.

    A mount namespace alone gives its own root, which is not the machine's if that is in a chroot.
    """
    spaces = ("--mount", "--root", "--uts", "--ipc", "--net", "--pid")
    return ["nsenter", f"--target={pid}", *spaces, "--", *map(str, argv)]


def in_network(pid: int, *argv: str | Path) -> list[str]:
    """Return the command that runs argv in a machine's network and our own file system."""
    return ["nsenter", f"--target={pid}", "--net", "--", *map(str, argv)]


def _start_time(process: Path) -> str | None:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _entered(folder: Path) -> bool:
    """Tell whether process 1 has made its mounts and become what it shall run."""
    pid = read_pid(folder)
    if pid is None:
        return False
    wanted = json.loads((folder / "entry.json").read_text())["argv"]
    command = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    return [word.encode() for word in wanted] == command[:-1]


def _enter(folder: Path) -> None:
    """Become process 1: the first code that runs in the new namespaces."""
    entry = json.loads((folder / "entry.json").read_text())
    # /proc is still the host's, so what it says of us is what the host sees.
    outside = Path("/proc", os.readlink("/proc/self"))
    write(folder / "pid", f"{outside.name} {_start_time(outside)}")
    run("mount", "--make-rshared", "/")  # kubelet wants propagation; unshare made / private
    run("mount", "-t", "proc", "proc", "/proc")
    for target, source in entry["binds"].items():
        Path(source).mkdir(parents=True, exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", source, target)
    Path("/proc/sys/kernel/hostname").write_text(entry["hostname"])
    run("ip", "link", "set", "dev", "lo", "up")
    os.execvpe(entry["argv"][0], entry["argv"], environment())  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    try:
        _enter(Path(sys.argv[1]))
    except (ClusterError, OSError) as error:
        sys.exit(f"a machine could not start: {error}")
