"""Images in a region's containerd, and the seed that new regions start from.

An image is imported once, into the seed: a containerd folder without containers. A new region gets
a copy of the seed whose layers are hard links, because layers are never changed.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from headgate_cluster import machines, region as regions
from headgate_cluster.commands import run, say, until
from headgate_cluster.files import write

IMPORT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Archive:
    """An image in a file, named by its one tag."""

    tag: str
    path: Path

    @property
    def repository(self) -> str:
        return self.tag.rpartition(":")[0]


def snapshotter(folder: Path) -> str:
    """Choose how containerd stacks layers in a folder: overlayfs cannot stand on overlayfs."""
    kind = run("stat", "--file-system", "--format=%T", folder).strip()
    return "native" if kind == "overlayfs" else "overlayfs"


def load(pid: int, archives: Iterable[Archive]) -> list[str]:
    """Import what a running machine does not have, and return the tags that were imported."""
    have = set(_ctr(pid, "images", "list", "--quiet").split())
    wanted = [archive for archive in archives if archive.tag not in have]
    for archive in wanted:
        say(f"importing {archive.tag}")
        _ctr(pid, "images", "import", "--digests=false", archive.path)
    return [archive.tag for archive in wanted]


def fill_seed(state: Path, archives: Iterable[Archive]) -> None:
    """Bring the seed to hold these images, and no older tags of their repositories."""
    seed, wanted = state / "seed", list(archives)
    noted = seed / "images"
    listing = "".join(f"{archive.tag}\n" for archive in sorted(wanted, key=lambda a: a.tag))
    if noted.exists() and noted.read_text() == listing:
        return
    noted.unlink(missing_ok=True)  # half a seed is filled again
    (seed / "containerd").mkdir(parents=True, exist_ok=True)
    template = Template((regions.TEMPLATES / "containerd.toml").read_text())
    config = seed / "containerd.toml"
    write(config, template.substitute(pause="", snapshotter=snapshotter(seed)))
    binds = {"/var/lib/containerd": seed / "containerd", "/run/containerd": seed / "run"}
    command = ("containerd", f"--config={config}")
    pid = machines.start(seed, command, hostname="seed", binds=binds)
    try:
        until(lambda: _ctr(pid, "version"), "containerd of the seed", seconds=60)
        load(pid, wanted)
        for tag in outdated(_ctr(pid, "images", "list", "--quiet").split(), wanted):
            _ctr(pid, "images", "remove", "--sync", tag)
    finally:
        machines.kill(seed)
    write(noted, listing)


def planted(folder: Path) -> bool:
    """Tell whether a region has a containerd folder of its own."""
    return (folder / "containerd").exists()


def plant(state: Path, folder: Path) -> None:
    """Give a new region the seed's images: databases are copied, layers are linked."""
    if planted(folder):
        return
    half = folder / "containerd.half"
    shutil.rmtree(half, ignore_errors=True)
    half.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "-al", state / "seed" / "containerd", half, seconds=IMPORT_SECONDS)
    for database in half.rglob("*.db"):
        content = database.read_bytes()
        database.unlink()
        database.write_bytes(content)
    half.rename(folder / "containerd")


def outdated(tags: Iterable[str], wanted: Iterable[Archive]) -> list[str]:
    current = {archive.tag for archive in wanted}
    repositories = {archive.repository for archive in wanted}
    return [tag for tag in tags if tag not in current and tag.rpartition(":")[0] in repositories]


def _ctr(pid: int, *argv: str | Path) -> str:
    return run(*machines.inside(pid, "ctr", "-n", "k8s.io", *argv), seconds=IMPORT_SECONDS)
