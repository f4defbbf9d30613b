"""What comes from Debian: found by its command, installed once when it is missing."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from headgate_cluster.commands import run_long, say, search_path
from headgate_cluster.errors import ClusterError
from headgate_cluster.files import cache_root, locked

LIGHT: Final = {"etcd": "etcd-server", "openssl": "openssl", "setpriv": "util-linux"}
"""Command or file -> package, for the light control plane."""

DEBOOTSTRAP: Final = {
    "mount": "mount",
    "debootstrap": "debootstrap",
    "setpriv": "util-linux",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
"""Command or file -> package, for the root file system of a Debian."""

FULL: Final = {
    **LIGHT,
    **DEBOOTSTRAP,
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "buildah": "buildah",
}
"""Command or file -> package, for regions and images."""


LOCK_SECONDS: Final = 120
"""A fresh machine updates itself at first: apt-get waits for that instead of giving up at once."""


def present(name: str) -> bool:
    if name.startswith("/"):
        return Path(name).exists()
    return shutil.which(name, path=search_path()) is not None


def missing(needs: dict[str, str], here: Callable[[str], bool] = present) -> list[str]:
    """Return the packages whose commands are not here, in alphabetical order."""
    return sorted({package for name, package in needs.items() if not here(name)})


def ensure(needs: dict[str, str]) -> None:
    """Install what is missing with apt-get; package lists are fetched only if they do not do."""
    with locked(cache_root() / "packages.lock"):
        if not (wanted := missing(needs)):
            return
        if os.geteuid() != 0 or not present("apt-get"):
            raise ClusterError(f"install these Debian packages first: {' '.join(wanted)}")
        say(f"installing {' '.join(wanted)}")
        try:
            _apt("install", wanted)
        except ClusterError:
            _apt("update", ())
            _apt("install", wanted)
        if still := missing(needs):
            raise ClusterError(f"apt-get installed, but not to be found: {' '.join(still)}")


def _apt(verb: str, words: Iterable[str]) -> None:
    options = ("-y", "--no-install-recommends") if verb == "install" else ()
    run_long(
        "apt-get",
        f"--option=DPkg::Lock::Timeout={LOCK_SECONDS}",
        verb,
        *options,
        *words,
        what=f"apt-get {verb}",
        log=cache_root() / "log" / f"apt-{verb}.log",
        seconds=600,
        env={"DEBIAN_FRONTEND": "noninteractive"},
    )
