"""Start, stop and look at a set of regions."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from signal import SIGKILL
from typing import Final

from headgate_cluster import binaries, cgroups, containers, machines, network, packages, pki, region
from headgate_cluster.commands import run, say, until
from headgate_cluster.containers import Archive
from headgate_cluster.errors import ClusterError
from headgate_cluster.files import locked, tail
from headgate_cluster.layout import ROUTER, Layout, Region
from headgate_cluster.supervisor import READY

UP_SECONDS: Final = 300.0


def up(layout: Layout, archives: Sequence[Archive], pause: Archive) -> Path:
    """Start what does not run, with these images, and return the kubeconfig when all is ready.

    Safe to call again, and after every process of the set was killed.
    """
    if os.geteuid() != 0:
        raise ClusterError("regions need root; tests without pods have the light control plane")
    packages.ensure(packages.FULL)
    found = binaries.build()
    images = [pause, *archives]
    with locked(layout.state / "lock"):
        layout.save()
        router = _start_router(layout, found["pause"])
        if any(not containers.planted(layout.machine(each.name)) for each in layout.regions):
            containers.fill_seed(layout.state, images)
        for each in layout.regions:
            pid = _start_region(layout, each, pause)
            network.connect_region(layout, each, router, pid)
        _write_kubeconfig(layout)
    for each in layout.regions:
        _until_ready(layout, each)
        containers.load(_pid(layout, each), images)
    return layout.kubeconfig


def down(layout: Layout, *, keep: bool = False) -> None:
    """End all machines and remove what they leave, with `keep` all but their data.

    Safe to call again, and after a run that was killed half way.

    Raises:
        ClusterError: something of the set is still there; the message names it.
    """
    with locked(layout.state / "lock"):
        for folder in (*_machines(layout), layout.state / "seed"):
            machines.kill(folder)
        until(lambda: _no_strays(layout.state), "end of machines without a pid file", seconds=20)
        network.disconnect_host(layout)
        left = [str(path) for path in cgroups.remove(f"/{layout.prefix}")]
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        left += [line.split()[1] for line in mounts if str(layout.state) in line]
        if left:
            raise ClusterError(f"still there: {', '.join(left)}")
        if not keep:
            run("rm", "-rf", layout.state / "machines", layout.kubeconfig, seconds=300)


def load_images(layout: Layout, archives: Iterable[Archive]) -> list[str]:
    """Import images into every region that runs; return the tags that at least one had not."""
    wanted = list(archives)
    tags = [containers.load(_pid(layout, each), wanted) for each in layout.regions]
    return sorted({tag for each in tags for tag in each})


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """What one machine does now."""

    name: str
    boot: dict[str, float]  # step -> s after the start; empty: does not run
    processes: dict[str, int]  # name -> resident memory of all of that name, MiB

    @property
    def memory(self) -> int:
        """Resident memory of all its processes, pods included, MiB."""
        return sum(self.processes.values())

    @property
    def state(self) -> str:
        if not self.processes:
            return "not running"
        return "ready" if READY in self.boot or self.name == ROUTER else "starting"


def status(layout: Layout) -> list[MachineStatus]:
    names = [ROUTER, *(each.name for each in layout.regions)]
    return [
        MachineStatus(name, _boot(layout, name), _processes(layout.machine(name))) for name in names
    ]


def _start_router(layout: Layout, pause: Path) -> int:
    router = machines.start(layout.machine(ROUTER), [pause], hostname=ROUTER, binds={})
    network.start_router(router)
    network.connect_host(layout, router)
    return router


def _start_region(layout: Layout, each: Region, pause: Archive) -> int:
    folder = layout.machine(each.name)
    kind = containers.snapshotter(layout.state)
    region.write_files(layout, each, pause=pause.tag, snapshotter=kind)
    if machines.read_pid(folder) is None:
        say(f"starting region {each.name}")
        cgroups.remove(layout.cgroup(each))
        containers.plant(layout.state, folder)
        (folder / "boot.json").unlink(missing_ok=True)
    command = (sys.executable, "-m", "headgate_cluster.supervisor", layout.state, each.name)
    return machines.start(folder, command, hostname=each.node, binds=region.binds(folder))


def _until_ready(layout: Layout, each: Region) -> None:
    told = set(_boot(layout, each.name))  # of an earlier start: no news
    folder = layout.machine(each.name)

    def ready() -> bool:
        boot = _boot(layout, each.name)
        for step, seconds in boot.items():
            if step not in told:
                told.add(step)
                say(f"{each.name}: {step} after {seconds:.1f} s")
        return READY in boot or machines.read_pid(folder) is None

    until(
        ready,
        f"region {each.name}",
        seconds=UP_SECONDS,
        every=0.1,
        last_words=lambda: tail(folder / "init.log"),
    )
    _pid(layout, each)


def _pid(layout: Layout, each: Region) -> int:
    folder = layout.machine(each.name)
    if pid := machines.read_pid(folder):
        return pid
    raise ClusterError(f"region {each.name} does not run:\n{tail(folder / 'init.log')}".rstrip())


def _boot(layout: Layout, name: str) -> dict[str, float]:
    try:
        boot: dict[str, float] = json.loads((layout.machine(name) / "boot.json").read_text())
    except FileNotFoundError:
        return {}
    return boot


def _write_kubeconfig(layout: Layout) -> None:
    accesses = [
        pki.Access(each.name, layout.server(each), layout.machine(each.name) / "etc" / "pki")
        for each in layout.regions
    ]
    pki.write_kubeconfig(layout.kubeconfig, *accesses)


def _machines(layout: Layout) -> list[Path]:
    folder = layout.state / "machines"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _no_strays(state: Path) -> bool:
    strays = machines.strays(state)
    for pid in strays:
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)
    return not strays


def _processes(folder: Path) -> dict[str, int]:
    """Sum up the resident memory of a machine by program, pods included."""
    pid = machines.read_pid(folder)
    if pid is None:
        return {}
    found: dict[str, int] = {}
    for child in machines.tree(pid):
        with suppress(OSError):
            fields = (Path("/proc", str(child), "statm")).read_text().split()
            command = Path("/proc", str(child), "cmdline").read_bytes().split(b"\0")[0].decode()
            name = Path(command).name or "?"
            found[name] = found.get(name, 0) + int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    largest_first = sorted(found.items(), key=lambda entry: -entry[1])
    return {name: ceil(resident / 2**20) for name, resident in largest_first}
