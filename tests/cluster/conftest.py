import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml

from headgate_cluster import binaries, cluster, images
from headgate_cluster.commands import run
from headgate_cluster.containers import Archive
from headgate_cluster.files import cache_root
from headgate_cluster.layout import Layout, regions


@dataclass(frozen=True, slots=True)
class Ground:
    """A region that these tests own: they kill it, so it is not the user's."""

    layout: Layout
    python: Archive  # an image with a Python, for pods that do something
    pause: Archive

    def up(self) -> None:
        cluster.up(self.layout, [self.python], self.pause)

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return run(*self._kubectl(), *args, stdin=stdin, seconds=120)

    def popen(self, *args: str) -> "subprocess.Popen[str]":
        return subprocess.Popen([*self._kubectl(), *args], stdout=subprocess.PIPE, text=True)

    def _kubectl(self) -> list[str]:
        kubectl = binaries.built(["kubectl"])["kubectl"]
        return [str(kubectl), f"--kubeconfig={self.layout.kubeconfig}"]


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    if os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names the cluster to test on: no other one is started")
    layout = Layout(cache_root() / "cluster-of-tests", regions("test"), "hgtest", "10.94", "10.95")
    ground = Ground(layout, images.base(), images.pause())
    cluster.down(layout)
    ground.up()
    yield ground
    cluster.down(layout)


@pytest.fixture
def pod(ground: Ground) -> Callable[..., str]:
    """`pod(name, script, port=None)` runs Python in a pod and returns the pod's address."""

    def start(name: str, script: str, *, port: int | None = None, resources: object = None) -> str:
        container: dict[str, object] = {
            "name": "python",
            "image": ground.python.tag,
            "imagePullPolicy": "Never",
            "command": ["python3", "-uc", script],
            "resources": resources,
        }
        if port:
            container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
        labels = {"name": name, "labels": {"app": name}}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": labels,
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
        }
        ground.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
        ground.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        return ground.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}")

    return start
