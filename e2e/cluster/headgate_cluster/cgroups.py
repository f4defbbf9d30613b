"""Control groups of a set, in either version of the kernel's interface."""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from headgate_cluster.commands import until
from headgate_cluster.errors import ClusterError

MOUNT: Final = Path("/sys/fs/cgroup")
CONTROLLERS: Final = frozenset({"cpu", "cpuset", "memory", "pids"})


def make(path: str, mount: Path = MOUNT) -> None:
    """Make a group with all controllers: the kubelet does not make its own root."""
    unified = _unified(mount)
    for hierarchy in _hierarchies(mount):
        here = hierarchy
        for part in path.strip("/").split("/"):
            parent, here = here, here / part
            if unified:
                _delegate(parent)
            here.mkdir(exist_ok=True)
            if not unified:
                _inherit_cpuset(parent, here)


def remove(path: str, mount: Path = MOUNT) -> list[Path]:
    """Remove a group and all below it; return what the kernel would not let go."""
    left = []
    for hierarchy in _hierarchies(mount):
        for folder, _, _ in os.walk(hierarchy / path.strip("/"), topdown=False):
            try:
                # A group stays busy for a moment after its last process.
                until(partial(_removed, Path(folder)), f"end of {folder}", seconds=3)
            except ClusterError:
                left.append(Path(folder))
    return left


def _unified(mount: Path) -> bool:
    return (mount / "cgroup.controllers").exists()


def _hierarchies(mount: Path) -> list[Path]:
    if _unified(mount):
        return [mount]
    return sorted(at for at in mount.iterdir() if at.is_dir() and not at.is_symlink())


def _delegate(parent: Path) -> None:
    """Version 2: a group has only the controllers that its parent hands down."""
    have = set((parent / "cgroup.controllers").read_text().split())
    wanted = " ".join(f"+{name}" for name in sorted(CONTROLLERS & have))
    (parent / "cgroup.subtree_control").write_text(wanted)


def _inherit_cpuset(parent: Path, here: Path) -> None:
    """Version 1: a new cpuset is empty, and no process may enter an empty one."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (here / name).exists() and not (here / name).read_text().strip():
            (here / name).write_text((parent / name).read_text())


def _removed(folder: Path) -> bool:
    with suppress(FileNotFoundError):
        folder.rmdir()
    return True
