"""Wheels of hashed requirements, for the Python of the images, resolved outside of them."""

import re
import shutil
import sys
from pathlib import Path
from typing import Final

from headgate_cluster.commands import TIED, run_long, say
from headgate_cluster.debian import GLIBC, PYTHON
from headgate_cluster.files import TREE, cache_root, digest_of, locked

_MARKER: Final = re.compile(r" ; [^\\\n]+ \\$", re.MULTILINE)
_PLATFORMS: Final = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 16, -1)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
)


def fetch(pins: Path) -> Path:
    """Return a folder with the wheels of a requirements file, as the images' Python needs them."""
    # pip asks markers of the Python that runs it, which may be another; the image's asks again.
    wanted = _MARKER.sub(" \\\\", pins.read_text())
    folder = cache_root() / "wheels" / digest_of([pins], TREE, PYTHON, wanted, *_PLATFORMS)
    with locked(folder.parent / "lock"):
        if not folder.exists():
            say(f"fetching the wheels of {pins.name}")
            half = folder.with_name(f"{folder.name}.half")
            shutil.rmtree(half, ignore_errors=True)
            unmarked = folder.with_name(f"{folder.name}.txt")
            unmarked.write_text(wanted)
            run_long(
                *(*TIED, sys.executable, "-m", "pip", "download", "--disable-pip-version-check"),
                *("--no-deps", "--require-hashes", "--only-binary=:all:"),
                *("--implementation", "cp", "--python-version", PYTHON),
                *(f"--platform={platform}" for platform in _PLATFORMS),
                *("--dest", half, "--requirement", unmarked),
                what=f"fetching the wheels of {pins.name}",
                log=cache_root() / "log" / "pip-download.log",
                seconds=1800,
            )
            half.rename(folder)
    return folder
