"""How binaries get into the cache, shown with a `go` that writes what it was asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from headgate_cluster import binaries
from headgate_cluster.errors import ClusterError

GO = """#!/bin/sh
if [ "$1" = version ]; then echo "go version go1.26.1 linux/amd64"; exit; fi
echo "$@" >> {asked}
while [ "$1" != -o ]; do shift; done
[ -e {broken} ] && {{ echo half > "$2"; echo undefined: main; exit 1; }}
echo "#!/bin/sh" > "$2"
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and a fake Go; returns the file of its builds, one a line."""
    (tmp_path / "bin").mkdir()
    asked = tmp_path / "asked"
    go = tmp_path / "bin" / "go"
    go.write_text(GO.format(asked=asked, broken=tmp_path / "broken"))
    go.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return asked


def test_a_binary_is_built_once_for_its_content(asked: Path) -> None:
    first = binaries.build(["pause"])
    assert first == binaries.build(["pause"]) == binaries.built(["pause"])
    assert first["pause"].exists()
    assert 1 == len(asked.read_text().splitlines())


def test_kubernetes_says_which_version_it_is(asked: Path) -> None:
    binaries.build(["kubectl"])
    command = asked.read_text()
    assert f"gitVersion={binaries.KUBERNETES} " in command
    assert command.endswith(" k8s.io/kubernetes/cmd/kubectl\n")


def test_binaries_of_one_module_lie_together_and_others_apart(asked: Path) -> None:
    places = {name: binaries.location(name).parent for name in binaries.TARGETS}
    assert places["kubectl"] == places["kubelet"]
    assert 3 == len(set(places.values()))


def test_a_build_that_fails_leaves_nothing_that_looks_built(asked: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(ClusterError, match="undefined: main"):
        binaries.build(["pause"])
    with pytest.raises(ClusterError, match="not built yet: pause; run `make binaries` first"):
        binaries.built(["pause"])

    (tmp_path / "broken").unlink()
    assert "#!/bin/sh\n" == binaries.build(["pause"])["pause"].read_text()


def test_two_at_once_build_one_after_the_other(asked: Path) -> None:
    script = "from headgate_cluster import binaries; binaries.build(['pause', 'coredns'])"
    runs = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [0, 0] == [run.wait() for run in runs]
    assert 2 == len(asked.read_text().splitlines())


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("go version go1.26.8 linux/amd64", True),
        ("go version go1.24 linux/amd64", True),
        ("go version go1.19.8 linux/amd64", False),
        ("gccgo 12", False),
    ],
)
def test_an_old_go_is_not_used(version: str, enough: bool) -> None:
    assert enough == binaries.new_enough(version)
