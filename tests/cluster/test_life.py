"""Up, down, and everything that can be killed in between."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.conftest import Ground

from headgate_cluster import cluster, machines
from headgate_cluster.commands import run, until
from headgate_cluster.errors import ClusterError
from headgate_cluster.layout import ROUTER
from headgate_cluster.supervisor import READY

pytestmark = pytest.mark.cluster


def machine(ground: Ground, name: str = "test") -> Path:
    return ground.layout.machine(name)


def pid_of(ground: Ground, command: str) -> int | None:
    """The process of a component of the region."""
    if (first := machines.read_pid(machine(ground))) is None:
        return None
    for pid in machines.tree(first):
        argv = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
        if Path(argv[0].decode()).name == command:
            return pid
    return None


def test_up_again_changes_nothing_that_runs(ground: Ground) -> None:
    before = [machines.read_pid(machine(ground, name)) for name in ("test", ROUTER)]
    ground.up()
    assert before == [machines.read_pid(machine(ground, name)) for name in ("test", ROUTER)]


@pytest.mark.parametrize("component", ["kube-apiserver", "etcd", "kubelet", "containerd"])
def test_a_component_that_is_killed_starts_again(ground: Ground, component: str) -> None:
    killed = pid_of(ground, component)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(lambda: pid_of(ground, component) not in {None, killed}, "restart", seconds=60)
    until(lambda: ground.kubectl("get", "--raw=/readyz") == "ok", "API server", seconds=60)


def test_after_a_kill_of_everything_up_brings_objects_and_pods_back(
    ground: Ground, pod: Callable[..., str]
) -> None:
    ground.kubectl("create", "configmap", "survivor", "--from-literal=word=river")
    pod("restarts", "import signal; signal.pause()")
    for name in ("test", ROUTER):
        for pid in reversed(machines.tree(machines.read_pid(machine(ground, name)) or 0)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    until(lambda: machines.read_pid(machine(ground)) is None, "end of the region", seconds=30)
    assert "not running" == cluster.status(ground.layout)[1].state

    ground.up()

    word = ground.kubectl("get", "configmap", "survivor", "-o", "jsonpath={.data.word}")
    assert "river" == word
    until(
        lambda: "restarts" in ground.kubectl("exec", "restarts", "--", "hostname"),
        "the pod of before",
        seconds=90,
        every=0.5,
    )


def test_status_names_every_component_and_its_memory(ground: Ground) -> None:
    router, region = cluster.status(ground.layout)
    assert (ROUTER, "ready") == (router.name, router.state)
    assert ("test", "ready") == (region.name, region.state)
    assert READY in region.boot
    assert {"etcd", "kube-apiserver", "kubelet", "kube-proxy", "coredns"} <= set(region.processes)
    assert all(memory > 0 for memory in region.processes.values())


def traces(ground: Ground) -> dict[str, list[str]]:
    """What of the set is on this machine, by kind."""
    prefix, state = ground.layout.prefix, str(ground.layout.state)
    spaces = {
        os.readlink(space)
        for pid in machines.strays(ground.layout.state)
        for space in Path("/proc", str(pid), "ns").iterdir()
    }
    return {
        "processes": [str(pid) for pid in machines.strays(ground.layout.state)],
        "namespaces": sorted(spaces),
        "mounts": [
            line for line in Path("/proc/self/mounts").read_text().splitlines() if state in line
        ],
        "links": [line for line in run("ip", "-o", "link").splitlines() if f"{prefix}-" in line],
        "routes": [
            line
            for line in run("ip", "route").splitlines()
            if line.split()[0] in ground.layout.networks or ground.layout.networks[0] in line
        ],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{prefix}")],
        "files": [str(path) for path in (ground.layout.state / "machines").glob("*")],
    }


def test_down_leaves_nothing_and_up_starts_anew(ground: Ground) -> None:
    running = traces(ground)
    assert all(running[kind] for kind in ("processes", "namespaces", "links", "routes", "cgroups"))
    spaces = namespaces()

    cluster.down(ground.layout)

    assert all(not left for left in traces(ground).values()), traces(ground)
    assert namespaces() < spaces
    cluster.down(ground.layout)  # again: no error
    with pytest.raises(ClusterError, match="region test does not run"):
        cluster.load_images(ground.layout, [])

    ground.up()
    with pytest.raises(ClusterError, match="not found"):
        ground.kubectl("get", "configmap", "survivor")


def test_a_machine_that_was_started_in_a_chroot_is_entered_there(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    for name in ("bin", "lib", "lib64"):
        (tmp_path / name).symlink_to(f"usr/{name}")
    script = 'mount --bind /usr "$0/usr" && exec chroot "$0" sleep 60'
    argv = ("unshare", "--mount", "--", "sh", "-c", script, str(tmp_path))
    with subprocess.Popen(argv) as process:
        try:
            root = Path("/proc", str(process.pid), "root")
            until(lambda: root.samefile(tmp_path), "chroot", seconds=30)
            listing = run(*machines.inside(process.pid, "ls", "/"))
        finally:
            process.kill()
    assert ["bin", "lib", "lib64", "usr"] == listing.split()


def namespaces() -> set[str]:
    """Every network namespace that a process of this machine is in."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.add(os.readlink(process / "ns/net"))
        except OSError:
            continue
    return found
