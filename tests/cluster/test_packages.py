from headgate_cluster import packages


def test_only_what_is_missing_is_named_and_each_package_once() -> None:
    needs = {
        "etcd": "etcd-server",
        "containerd": "containerd",
        "ctr": "containerd",
        "ip": "iproute2",
    }
    assert ["containerd", "etcd-server"] == packages.missing(needs, here="ip".__eq__)


def test_files_are_looked_for_by_path_and_commands_on_the_system_path() -> None:
    assert packages.present("/bin/sh")
    assert packages.present("sh")
    assert not packages.present("/no/such/file")
    assert not packages.present("no-such-command")


def test_a_whole_region_needs_all_that_the_light_control_plane_needs() -> None:
    assert packages.LIGHT.items() < packages.FULL.items()
