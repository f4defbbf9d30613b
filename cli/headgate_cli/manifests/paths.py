"""Which files are meant."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from headgate_api.errors import TerminalError

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


def paths_of(arguments: Iterable[str]) -> list[Path]:
    """Name the files that are meant: those given, and those in given folders and below.

    Raises:
        TerminalError: there is no such file or folder, or nothing behind a link.
    """
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            # Kubernetes mounts ConfigMaps by links to hidden folders: each file once.
            below = [file for file in path.rglob("*") if not _hidden(file.relative_to(path))]
            named = [file for file in below if file.suffix in SUFFIXES]
            if lost := next(
                (file for file in named if file.is_symlink() and not file.exists()), None
            ):
                raise TerminalError(f"{lost} is a link to nothing; remove it, or make its file")
            found += sorted(file for file in named if file.is_file())
        elif path.is_file():
            found.append(path)
        else:
            raise TerminalError(f"there is no file or folder {argument}")
    return list(dict.fromkeys(found))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
