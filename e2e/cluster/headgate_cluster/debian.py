"""A root file system of the Debian release that the images stand on."""

import shutil
from pathlib import Path
from typing import Final

from headgate_cluster.commands import TIED, run_long
from headgate_cluster.files import cache_root

RELEASE: Final = "bookworm"
PYTHON: Final = "3.11"
"""Of this release, and so of the images, whatever runs us."""
GLIBC: Final = 36
"""Of this release: 2.36."""

UNUSED: Final = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt/archives")

# buildah and debootstrap mount things: in namespaces of their own nothing of it can stay.
APART: Final = (
    *TIED,
    *("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "--"),
)


def bootstrap(root: Path, packages: tuple[str, ...], what: str) -> None:
    """Make a root file system with some packages and what they need."""
    run_long(
        *(*APART, "debootstrap", "--variant=minbase", f"--include={','.join(packages)}"),
        *(RELEASE, root),
        what=what,
        log=cache_root() / "log" / "debootstrap.log",
        seconds=1800,
    )
    for path in UNUSED:
        shutil.rmtree(root / path, ignore_errors=True)
