"""The official SDK in its older major: what clients use that have not moved on."""

import sys
from pathlib import Path
from typing import Final

from headgate_cluster.binaries import pip_install
from headgate_cluster.files import TREE, cache_root, digest_of, locked

PINS: Final = TREE / "requirements" / "openai-2.txt"


def older_openai() -> Path:
    """Return the folder with `openai` 2.x, for PYTHONPATH. It is fetched once."""
    folder = cache_root() / "openai" / digest_of([PINS], TREE, sys.version)
    with locked(folder.parent / "lock"):
        if not folder.exists():
            half = folder.with_name(f"{folder.name}.half")
            pip_install(half, PINS)
            half.rename(folder)
    return folder
