"""Where a set of regions lies, and which addresses its machines have."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from headgate_cluster.errors import ClusterError
from headgate_cluster.files import cache_root, write

SERVICES: Final = "10.96.0.0/16"
API_SERVICE: Final = "10.96.0.1"
DNS_SERVICE: Final = "10.96.0.10"
API_PORT: Final = 6443

ROUTER: Final = "router"
"""The machine between the regions and the host; faults between regions belong there."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU class as NVIDIA's feature discovery labels a node that has it."""

    product: str
    memory: int  # MiB
    compute: tuple[int, int]
    count: int = 8

    def labels(self) -> dict[str, str]:
        major, minor = self.compute
        return {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": self.product,
            "nvidia.com/gpu.count": str(self.count),
            "nvidia.com/gpu.memory": str(self.memory),
            "nvidia.com/gpu.compute.major": str(major),
            "nvidia.com/gpu.compute.minor": str(minor),
        }


GPUS: Final = (
    Gpu("NVIDIA-H100-80GB-HBM3", 81559, (9, 0)),
    Gpu("NVIDIA-L40S", 46068, (8, 9)),
    Gpu("NVIDIA-A100-SXM4-80GB", 81920, (8, 0)),
)
"""What regions get in turn: different classes, as fleets have them."""


@dataclass(frozen=True, slots=True)
class Region:
    name: str
    index: int  # from 1: it gives the addresses

    @property
    def node(self) -> str:
        return f"node-{self.name}"

    @property
    def gpu(self) -> Gpu:
        return GPUS[(self.index - 1) % len(GPUS)]


@dataclass(frozen=True, slots=True)
class Layout:
    """One set of regions. Two sets on one machine differ in every field but the regions."""

    state: Path
    regions: tuple[Region, ...]
    prefix: str = "headgate"  # of the host's link and of cgroups
    nodes: str = "10.90"
    pods: str = "10.91"

    def region(self, name: str) -> Region:
        for region in self.regions:
            if region.name == name:
                return region
        known = ", ".join(region.name for region in self.regions)
        raise ClusterError(f"there is no region {name}; there is {known}")

    def node_ip(self, region: Region) -> str:
        return f"{self.nodes}.{region.index}.2"

    def gateway_ip(self, region: Region) -> str:
        return f"{self.nodes}.{region.index}.1"

    def pods_of(self, region: Region) -> str:
        return f"{self.pods}.{region.index}.0/24"

    def server(self, region: Region) -> str:
        return f"https://{self.node_ip(region)}:{API_PORT}"

    @property
    def host_ip(self) -> str:
        return f"{self.nodes}.0.2"

    @property
    def router_ip(self) -> str:
        return f"{self.nodes}.0.1"

    @property
    def networks(self) -> tuple[str, str]:
        return f"{self.nodes}.0.0/16", f"{self.pods}.0.0/16"

    @property
    def link(self) -> str:
        """The one link in the host's network; the kernel allows 15 characters."""
        return f"{self.prefix}-0"[:15]

    def cgroup(self, region: Region) -> str:
        return f"/{self.prefix}/{region.name}"

    def machine(self, name: str) -> Path:
        return self.state / "machines" / name

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    def save(self) -> None:
        """Write the set down for the commands and machines that come after."""
        write(self.state / "layout.json", json.dumps({**asdict(self), "state": None}, indent=1))

    @staticmethod
    def exists(state: Path) -> bool:
        return (state / "layout.json").exists()

    @classmethod
    def load(cls, state: Path) -> Self:
        if not cls.exists(state):
            raise ClusterError("there is no local cluster; `headgate cluster up` starts one")
        known = json.loads((state / "layout.json").read_text())
        regions = tuple(Region(**region) for region in known.pop("regions"))
        return cls(**{**known, "state": state, "regions": regions})


def default_state() -> Path:
    return cache_root() / "cluster"


def regions(names: str) -> tuple[Region, ...]:
    """Read a comma list of names, which become names of links and hosts."""
    found = names.split(",")
    for name in found:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,9}", name) or name in {ROUTER, "host"}:
            raise ClusterError(
                f"{name!r} cannot name a region: 1 to 10 characters a-z 0-9, and not router or host"
            )
    if len(found) != len(set(found)):
        raise ClusterError(f"{names!r} names a region twice")
    return tuple(Region(name, index) for index, name in enumerate(found, 1))
