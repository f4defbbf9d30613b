"""The official SDK in its older major: what clients use that have not moved on."""

from pathlib import Path
from typing import Final

from headgate_cluster.binaries import pip_folder
from headgate_cluster.files import TREE

PINS: Final = TREE / "requirements" / "openai-2.txt"


def older_openai() -> Path:
    """Return the folder with `openai` 2.x, for PYTHONPATH."""
    return pip_folder("openai", PINS)
