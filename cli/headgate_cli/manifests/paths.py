"""Which files are meant."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from headgate_api.errors import TerminalError

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


def paths_of(arguments: Iterable[str]) -> list[Path]:
    """Name the files that are meant: those given, and those in given folders and below.

    Raises:
        TerminalError: there is no such file or folder.
    """
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            below = (file for file in path.rglob("*") if file.suffix in SUFFIXES)
            # Kubernetes mounts ConfigMaps by links to hidden folders: each file once.
            found += sorted(f for f in below if not _hidden(f.relative_to(path)) and f.is_file())
        elif path.is_file():
            found.append(path)
        else:
            raise TerminalError(f"there is no file or folder {argument}")
    return list(dict.fromkeys(found))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
