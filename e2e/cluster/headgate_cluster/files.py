"""Files that other processes read while we write them, and folders that outlive us."""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).resolve().parents[3]
"""The checkout: what is built lies in it, what was built never does."""

KEPT: Final = 3
"""Of each thing that is built anew for each change."""
_ERROR: Final = re.compile(r"[EF]\d{4} \d\d:|\S+: error: ")


def cache_root() -> Path:
    """Return the folder that holds everything built or fetched, shared by all checkouts."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headgate"


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.half")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    half.replace(path)


def forget_oldest(paths: Iterable[Path]) -> None:
    """Remove what was built, but for the newest: going back to another branch builds nothing."""
    for path in sorted(paths, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def tail(path: Path, lines: int = 12) -> str:
    """Return the end of a log, and before it the last errors if earlier.

    A Triton that cannot load its model says why 30 lines before it says goodbye, and a compiler
    goes on to warn. klog, glog and compilers mark errors.
    """
    try:
        everything = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    errors = [line for line in everything[:-lines] if _ERROR.match(line)]
    return "\n".join(line[:500] for line in (*errors[-3:], *everything[-lines:]))


def digest_of(paths: Iterable[Path], root: Path, *more: str) -> str:
    """Hash names, modes and contents of files, and folders below, and some words beside them."""
    found = sorted({file for path in paths for file in _files(path)})
    seen = hashlib.sha256()
    for word in more:
        seen.update(f"{len(word)}:{word}".encode())
    for file in found:
        content = file.read_bytes()
        runs = bool(file.stat().st_mode & 0o100)
        seen.update(f"{file.relative_to(root)}:{runs}:{len(content)}:".encode())
        seen.update(content)
    return seen.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for file in path.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes. The kernel drops it with its holder, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
