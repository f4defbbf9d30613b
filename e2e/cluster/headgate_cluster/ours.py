"""The project's own wheel, its data path compiled for the Python of the images.

It is compiled in a Debian like theirs, with the headers of their Python and their C library,
so that any machine makes the same. Tests and benchmarks take it too, and measure what is shipped.
"""

import shutil
import tomllib
import zipfile
from pathlib import Path
from typing import Final

from headgate_cluster import debian, packages, wheels
from headgate_cluster.commands import run_long
from headgate_cluster.files import TREE, cache_root, digest_of, forget_oldest, locked

PACKAGES: Final = ("gcc", "libc6-dev", "libpython3.11-dev", "python3")
PINS: Final = tuple(TREE / "requirements" / f"{name}.txt" for name in ("build", "gateway"))
"""What builds a wheel, and the libraries whose types make compiled code fast."""

DECIDING: Final = ("api", "gateway", "kube", "policy")
"""The folders that decide over compiled code: its own, and whose types it reads."""

_BUILD: Final = (TREE / "pyproject.toml", TREE / "hatch_build.py")


def digest() -> str:
    """Hash all that goes into the wheel."""
    return digest_of([*_sources(), *PINS], TREE, debian.RELEASE, *PACKAGES)


def wheel() -> Path:
    """Return the wheel for the sources as they are now, which is built once."""
    folder = _store() / digest()
    with locked(_store() / "lock"):
        if not folder.exists():
            _build(folder)
            forget_oldest(_store().glob("*/"))
    return next(folder.glob("*.whl"))


def unpacked() -> Path:
    """Return a folder with the wheel's packages that have compiled modules, for PYTHONPATH.

    The others stay where they are: the local cluster's finds the checkout by its own place.
    """
    whole = wheel()
    folder = whole.parent / "unpacked"
    with locked(_store() / "lock"), zipfile.ZipFile(whole) as archive:
        if not folder.exists():
            names = archive.namelist()
            tops = {name.split("/")[0] for name in names if name.endswith(".so")}
            half = folder.with_name("half")
            shutil.rmtree(half, ignore_errors=True)
            archive.extractall(half, [name for name in names if name.split("/")[0] in tops])
            half.rename(folder)
    return folder


def _build(folder: Path) -> None:
    root = _compiler()
    source, out = root / "source", root / "out"
    for old in (source, out):  # of a build that was killed
        shutil.rmtree(old, ignore_errors=True)
    compiled = digest_of([*(TREE / each for each in DECIDING), *_BUILD], TREE)
    (root / "compiled").mkdir(exist_ok=True)
    forget_oldest((root / "compiled").glob("*/"))
    for path in (*_sources(), TREE / "LICENSE", TREE / "README.md"):
        _copy(path, source / path.relative_to(TREE))
    run_long(
        *(*debian.APART, "chroot", root, "env", "--ignore-environment", "--chdir=/source"),
        *("PATH=/usr/bin:/bin", "HATCH_BUILD_HOOKS_ENABLE=1"),
        f"HEADGATE_COMPILED=/compiled/{compiled}",
        *("python3", "-m", "hatchling", "build", "--target=wheel", "--directory=/out"),
        what="compiling our wheel",
        log=cache_root() / "log" / "wheel.log",
        seconds=1800,
    )
    shutil.move(out, folder)


def _compiler() -> Path:
    """Return the root file system with a C compiler and all that builds a wheel."""
    root = cache_root() / "compiler" / digest_of(PINS, TREE, debian.RELEASE, *PACKAGES)
    if not root.exists():
        packages.ensure(packages.DEBOOTSTRAP)
        half = root.with_name("half")
        shutil.rmtree(root.parent, ignore_errors=True)
        debian.bootstrap(half, PACKAGES, "building a Debian with a C compiler")
        site = half / "usr" / "local" / "lib" / f"python{debian.PYTHON}" / "dist-packages"
        for pins in PINS:
            for each in wheels.fetch(pins).glob("*.whl"):
                with zipfile.ZipFile(each) as archive:
                    archive.extractall(site)
        half.rename(root)
    return root


def _sources() -> list[Path]:
    """Return what decides over the wheel. The README is in it too, and changes nothing of it."""
    pyproject = tomllib.loads(_BUILD[0].read_text())
    folders = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return [*_BUILD, *(TREE / folder for folder in folders)]


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        # A checkout may hold compiled modules of its own.
        shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    else:
        shutil.copy(path, to)


def _store() -> Path:
    return cache_root() / "ours"
