"""Process 1 of a region's machine: starts the components in order and restarts what ends."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headgate_cluster import binaries, cgroups, pki, region as regions
from headgate_cluster.commands import run, search_path, until
from headgate_cluster.errors import ClusterError
from headgate_cluster.files import write
from headgate_cluster.layout import API_PORT, Layout, Region
from headgate_cluster.processes import answers

STEP_SECONDS: Final = 180.0
READY: Final = "ready"
"""The last mark of a boot."""


@dataclass(slots=True)
class Component:
    """One program of the region and how it fares."""

    name: str
    argv: list[str]
    log: Path
    ends: int = 0
    again_at: float | None = None  # monotonic s

    def start(self) -> int:
        self.again_at = None
        out = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.posix_spawnp(
            self.argv[0],
            self.argv,
            {"PATH": search_path(), "HOME": "/var/lib/kubelet"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), out, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsigmask=(),
        )

    def ended(self, now: float) -> float:
        """Count an end and say how long to wait: 1 s after the first, at most 10 s."""
        self.ends += 1
        delay = min(10.0, float(2 ** (self.ends - 1)))
        self.again_at = now + delay
        return delay


@dataclass(slots=True)
class Supervisor:
    """All components of one region."""

    layout: Layout
    region: Region
    components: Mapping[str, Component]
    kubectl: Path
    running: dict[int, Component] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        return self.layout.machine(self.region.name)

    def boot(self) -> None:
        """Bring the region up; every step is marked with its time in boot.json."""
        trust = pki.trust(self.folder / "etc" / "pki")
        api = f"https://{self.layout.node_ip(self.region)}:{API_PORT}"
        self._step("network", lambda: "default" in run("ip", "route"))
        for key in ("ip_forward", "conf/all/rp_filter", "conf/default/rp_filter"):
            value = "1" if key == "ip_forward" else "0"
            Path("/proc/sys/net/ipv4", key).write_text(value)
        cgroups.make(self.layout.cgroup(self.region))
        self._start("etcd", "containerd")
        self._step("etcd", lambda: answers("http://127.0.0.1:2379/health"))
        self._start("kube-apiserver")
        self._step("kube-apiserver", lambda: answers(f"{api}/readyz", trust))
        self._start("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
        self._step("system objects", self._apply_system)
        self._start("coredns")
        self._step("node", self._node_is_ready)
        self._step("GPUs", self._advertise_gpus)
        self._step("DNS", lambda: answers("http://127.0.0.1:8181/ready"))
        # Pods that are created before it are refused.
        self._step("service account", lambda: self._kubectl("get", "serviceaccount", "default"))
        self._mark(READY)

    def watch(self) -> None:
        """Restart what ends, and collect orphans, as process 1 must. Returns never."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        while True:
            self._tend()
            waits = any(each.again_at is not None for each in self.components.values())
            signal.sigtimedwait([signal.SIGCHLD], 0.3 if waits else 60)

    def _start(self, *names: str) -> None:
        for name in names:
            component = self.components[name]
            self.running[component.start()] = component

    def _tend(self) -> None:
        now = time.monotonic()
        while (pid := _ended_child()) is not None:
            if component := self.running.pop(pid, None):
                delay = component.ended(now)
                print(f"{component.name} ended; starts again in {delay:.0f} s", flush=True)
        for component in self.components.values():
            if component.again_at is not None and now >= component.again_at:
                self._start(component.name)

    def _step(self, what: str, done: Callable[[], object]) -> None:
        def tended() -> object:
            self._tend()
            return done()

        until(tended, what, seconds=STEP_SECONDS, every=0.1)
        self._mark(what)

    def _mark(self, what: str) -> None:
        self.marks[what] = round(time.monotonic() - self.began, 1)
        write(self.folder / "boot.json", json.dumps(self.marks))

    def _kubectl(self, *argv: str) -> str:
        return run(self.kubectl, f"--kubeconfig={regions.ETC}/admin.conf", *argv)

    def _apply_system(self) -> str:
        manifest = f"{regions.ETC}/system.yaml"
        return self._kubectl("apply", "--server-side", "--force-conflicts", "-f", manifest)

    def _node_is_ready(self) -> bool:
        path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return "True" in self._kubectl("get", "node", self.region.node, "-o", path)

    def _advertise_gpus(self) -> str:
        """Say that the node has GPUs: nothing checks, so pods that ask for one are placed."""
        amount = {"nvidia.com/gpu": str(self.region.gpu.count)}
        patch = json.dumps({"status": {"capacity": amount, "allocatable": amount}})
        node = ("patch", "node", self.region.node, "--subresource=status", "--type=merge")
        return self._kubectl(*node, "-p", patch)


def _ended_child() -> int | None:
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return pid or None


def main(state: Path, name: str) -> None:
    layout = Layout.load(state)
    region = layout.region(name)
    log = layout.machine(name) / "log"
    built = binaries.built()
    components = {
        name: Component(name, [str(word) for word in argv], log / f"{name}.log")
        for name, argv in regions.commands(layout, region, built).items()
    }
    supervisor = Supervisor(layout, region, components, built["kubectl"])
    supervisor.boot()
    supervisor.watch()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except ClusterError as error:
        sys.exit(f"the region ends: {error}")
