from pathlib import Path

import pytest

from headgate_cluster.errors import ClusterError
from headgate_cluster.layout import Layout, Region, regions
from headgate_cluster.region import commands, labels

LAYOUT = Layout(Path("/set"), regions("east,west"))
EAST, WEST = LAYOUT.regions


def test_addresses_follow_from_the_index() -> None:
    assert "https://10.90.2.2:6443" == LAYOUT.server(WEST)
    assert "10.91.1.0/24" == LAYOUT.pods_of(EAST)
    assert "10.90.0.2" == LAYOUT.host_ip


def test_two_sets_share_nothing_on_the_machine() -> None:
    other = Layout(Path("/other"), LAYOUT.regions, "hgtest", "10.94", "10.95")
    for layout in (LAYOUT, other):
        facts = {layout.link, layout.cgroup(EAST), *layout.networks, layout.server(EAST)}
        twin = other if layout is LAYOUT else LAYOUT
        assert not facts & {twin.link, twin.cgroup(EAST), *twin.networks, twin.server(EAST)}


def test_a_layout_is_read_as_it_was_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path, LAYOUT.regions, "hgtest", "10.94", "10.95")
    layout.save()
    assert layout == Layout.load(tmp_path)


def test_no_layout_is_told_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="`headgate cluster up` starts one"):
        Layout.load(tmp_path)


@pytest.mark.parametrize("names", ["", "East", "a-b", "router", "host", "abcdefghijk", "a,a", "a,"])
def test_names_that_cannot_be_links_and_hosts_are_refused(names: str) -> None:
    with pytest.raises(ClusterError):
        regions(names)


def test_an_unknown_region_is_told_with_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="there is no region north; there is east, west"):
        LAYOUT.region("north")


def test_regions_differ_in_their_gpus_and_say_where_they_are() -> None:
    assert "NVIDIA-H100-80GB-HBM3" == labels(EAST)["nvidia.com/gpu.product"]
    assert "NVIDIA-L40S" == labels(WEST)["nvidia.com/gpu.product"]
    assert "west" == labels(WEST)["topology.kubernetes.io/region"]


def test_every_component_of_a_region_has_one_command() -> None:
    built = {name: Path("/bin", name) for name in (*_BUILT, "kubectl", "pause")}
    found = commands(LAYOUT, EAST, built)
    assert {*_BUILT, "etcd", "containerd"} == set(found)
    assert "--node-ip=10.90.1.2" in found["kubelet"]


_BUILT = {
    *("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "coredns"),
}


def test_the_index_of_a_region_is_its_place_in_the_list() -> None:
    assert (Region("east", 1), Region("west", 2)) == LAYOUT.regions
