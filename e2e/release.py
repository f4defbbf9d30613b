"""A cluster with the release on it: what the demo and the cases begin with."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from e2e.harness import NODE_PORT, RELEASE, ROOT, Cluster
from headgate_cli.cluster import foreign_kubeconfig
from headgate_cluster import binaries, cluster as regions, images
from headgate_cluster.files import cache_root
from headgate_cluster.layout import Layout, default_state, regions as named

CHART: Final = str(ROOT / "charts" / "headgate")
REGION: Final = "local"
DEMO: Final = Layout(default_state(), named(REGION))
"""What `headgate cluster up` starts too."""
CASES: Final = Layout(cache_root() / "cluster-of-cases", named(REGION), "hgcases", "10.92", "10.93")
"""A set of its own: the tests leave a user's cluster alone."""


def say(sentence: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {sentence}", flush=True)


@dataclass(frozen=True, slots=True)
class Release:
    """One Helm release of this checkout's chart and images."""

    cluster: Cluster
    tags: Mapping[str, str]  # image name -> repository:tag
    layout: Layout | None  # of the local cluster; None: the cluster is the user's

    def values(self) -> list[str]:
        operator, gateway, triton, trtllm = (
            self.tags[name].rpartition(":")[::2]
            for name in ("operator", "gateway", "triton-sim", "trtllm-sim")
        )
        return _set(
            {
                "region.name": REGION,
                "operator.image.repository": operator[0],
                "operator.image.tag": operator[1],
                "gateway.image.repository": gateway[0],
                "gateway.image.tag": gateway[1],
                "runtime.image.repository": triton[0],
                "runtime.image.tag": triton[1],
                "runtime.trtllmServeImage.repository": trtllm[0],
                "runtime.trtllmServeImage.tag": trtllm[1],
                "gateway.service.type": "NodePort",
                "gateway.service.nodePort": NODE_PORT,
                "gateway.resources.requests.cpu": "50m",  # it shares a small machine
            }
        )

    def install(self, **more: object) -> None:
        """Install or upgrade, and return when every pod of the release is ready."""
        self.cluster.helm(
            *("upgrade", "--install", RELEASE, CHART, "--create-namespace"),
            *("--wait", "--timeout=300s"),
            *self.values(),
            *_set(more),
        )

    def stop(self) -> None:
        """Take the local cluster down; a cluster of the user's is left alone."""
        if self.layout:
            regions.down(self.layout)


def _set(values: Mapping[str, object]) -> list[str]:
    return [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]


def node_address(cluster: Cluster) -> str:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    addresses: Iterable[dict[str, str]] = nodes[0]["status"]["addresses"]
    return next(a["address"] for a in addresses if a["type"] == "InternalIP")


def start(layout: Layout) -> Release:
    """Build what is missing and start the local cluster with it, or take that of KUBECONFIG."""
    kubectl = str(binaries.build(binaries.LIGHT)["kubectl"])
    archives = images.build()
    chosen = foreign_kubeconfig()
    kubeconfig = chosen or str(regions.up(layout, archives, images.pause()))
    bare = Cluster(kubeconfig, kubectl, "")
    cluster = Cluster(kubeconfig, kubectl, node_address(bare))
    tags = {archive.repository.rpartition("/")[2]: archive.tag for archive in archives}
    return Release(cluster, tags, None if chosen else layout)


def examples(name: str) -> str:
    return str(ROOT / "examples" / name)
