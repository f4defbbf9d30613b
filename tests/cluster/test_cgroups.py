"""Both interfaces of the kernel, as folders: one machine has only one of them."""

from pathlib import Path

from headgate_cluster import cgroups


def test_version_2_hands_down_what_a_kubelet_needs(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma\n")
    (tmp_path / "hg").mkdir()
    (tmp_path / "hg" / "cgroup.controllers").write_text("cpuset cpu memory pids\n")

    cgroups.make("/hg/east", tmp_path)

    assert (tmp_path / "hg" / "east").is_dir()
    for parent in (tmp_path, tmp_path / "hg"):
        assert "+cpu +cpuset +memory +pids" == (parent / "cgroup.subtree_control").read_text()


def test_version_1_makes_the_group_in_every_hierarchy(tmp_path: Path) -> None:
    for hierarchy in ("cpuset", "memory"):
        (tmp_path / hierarchy).mkdir()
    (tmp_path / "cpu").symlink_to("memory")
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset" / "hg").mkdir()
    (tmp_path / "cpuset" / "hg" / "cpuset.cpus").write_text("\n")

    cgroups.make("/hg/east", tmp_path)

    assert (tmp_path / "memory" / "hg" / "east").is_dir()
    assert (tmp_path / "cpuset" / "hg" / "east").is_dir()
    assert "0-1\n" == (tmp_path / "cpuset" / "hg" / "cpuset.cpus").read_text()


def test_a_group_goes_with_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "memory" / "hg" / "east" / "kubepods" / "pod1").mkdir(parents=True)
    assert [] == cgroups.remove("/hg", tmp_path)
    assert [] == list((tmp_path / "memory").iterdir())


def test_a_group_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    assert [] == cgroups.remove("/hg", tmp_path)
