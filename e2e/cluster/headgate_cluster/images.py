"""Build the project's images from their Containerfiles, each once for its content.

What an image holds is resolved outside, from hashed requirements, into a folder of wheels; inside,
pip gets that folder and no network. The tag is a hash of all that went in: an image that is there
is up to date, and a cluster never runs an older one under the same name.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from headgate_cluster import binaries, debian, ours, packages, wheels
from headgate_cluster.commands import run, run_long, say
from headgate_cluster.containers import Archive
from headgate_cluster.files import TREE, cache_root, digest_of, forget_oldest, locked

PREFIX: Final = "localhost/headgate"
BUILD_SECONDS: Final = 1800.0

BASE_PACKAGES: Final = ("ca-certificates", "libgomp1", "libpython3.11", "python3", "python3-venv")


@dataclass(frozen=True, slots=True)
class Image:
    """One image: the folder of its Containerfile, and what fills the context of its build."""

    name: str
    folder: Path
    digest: str
    fill: Callable[[Path], None]
    base: "Image | None" = None

    @property
    def archive(self) -> Archive:
        """The image's tag, and the file that holds it once it is built."""
        short = self.digest[:12]
        return Archive(f"{PREFIX}/{self.name}:{short}", _store() / f"{self.name}-{short}.tar")


def build() -> list[Archive]:
    """Build the project's images, those that are not there yet, and return all."""
    return [_build(image) for image in programs()]


def built() -> list[Archive]:
    """Return those of the project's images that are there, for the sources as they are now."""
    return [image.archive for image in programs() if image.archive.path.exists()]


def base() -> Archive:
    """Return the image that the others stand on: Debian with Python."""
    return _build(_base())


def pause() -> Archive:
    """Return the image that holds a pod's namespaces."""
    binary = binaries.location("pause")
    folder = _OURS / "pause"

    def fill(context: Path) -> None:
        shutil.copy(binaries.build(["pause"])["pause"], context)

    return _build(Image("pause", folder, digest_of([folder], TREE, binary.parent.name), fill))


_OURS: Final = TREE / "e2e" / "cluster" / "images"
_SIMULATED_LLM: Final = TREE / "images" / "triton-sim" / "models" / "simulated_llm"


def programs() -> list[Image]:
    return [
        _program("operator", runs_ours=True),
        _program("gateway", runs_ours=True),
        _program("triton-sim", runs_ours=False),
        _program("trtllm-sim", runs_ours=False, shared=(_SIMULATED_LLM,)),
    ]


def _program(name: str, *, runs_ours: bool, shared: tuple[Path, ...] = ()) -> Image:
    """Describe an image of wheels on the base, with our own wheel where it runs our code.

    `shared` are folders of other images that its context gets, too.
    """
    folder, pins, base = TREE / "images" / name, TREE / "requirements" / f"{name}.txt", _base()

    def fill(context: Path) -> None:
        shutil.copy(pins, context / "requirements.txt")
        shutil.copytree(wheels.fetch(pins), context / "wheels")
        for other in shared:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(other, context / other.name, ignore=ignored)
        if runs_ours:
            (context / "ours").mkdir()
            shutil.copy(ours.wheel(), context / "ours")

    words = (base.digest, ours.digest()) if runs_ours else (base.digest,)
    digest = digest_of([folder, pins, *shared], TREE, *words)
    return Image(name, folder, digest, fill, base)


def _base() -> Image:
    folder = _OURS / "base"
    words = (debian.RELEASE, *BASE_PACKAGES, *debian.UNUSED)
    return Image("base", folder, digest_of([folder], TREE, *words), _fill_base)


def _fill_base(context: Path) -> None:
    root = context / "root"
    debian.bootstrap(root, BASE_PACKAGES, "building a Debian root file system")
    run("tar", "--create", "--file", context / "root.tar", "--directory", root, ".", seconds=300)
    shutil.rmtree(root)


def _build(image: Image) -> Archive:
    archive = image.archive
    if archive.path.exists():
        return archive
    packages.ensure(packages.FULL)
    base = _build(image.base) if image.base else None
    with locked(_store() / "lock"):
        if not archive.path.exists():
            _build_now(image, archive, base)
            forget_oldest(_store().glob(f"{image.name}-*.tar"))
    return archive


def _build_now(image: Image, archive: Archive, base: Archive | None) -> None:
    began = time.monotonic()
    say(f"building {archive.tag}")
    scratch = _store() / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # of a build that was killed
    context, half = scratch / "context", scratch / "archive.tar"
    shutil.copytree(image.folder, context, ignore=shutil.ignore_patterns("__pycache__"))
    image.fill(context)
    buildah = partial(_buildah, image, *_storage(base))
    buildah("rm", "--all")  # containers of a build that was killed
    if base:
        buildah("pull", f"docker-archive:{base.path}")
    buildah(
        # Layers of earlier builds are used again; no time in them, or they would differ.
        *("build", "--isolation=chroot", "--layers", "--timestamp=0"),
        *("--build-arg", f"BASE={base.tag if base else ''}", "--tag", archive.tag),
        str(context),
    )
    buildah("push", archive.tag, f"docker-archive:{half}:{archive.tag}")
    half.rename(archive.path)
    shutil.rmtree(scratch)
    say(f"built {archive.tag} in {time.monotonic() - began:.0f} s")


def _storage(base: Archive | None) -> tuple[str, ...]:
    """Return buildah's options for a storage per base; those of older bases go away."""
    folder = _store() / f"storage-{base.path.stem if base else 'scratch'}"
    if base:
        for other in set(_store().glob("storage-base-*")) - {folder}:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Layers cannot be overlaid on an overlay, which the root of a container is.
    kind = run("stat", "--file-system", "--format=%T", folder).strip()
    driver = "vfs" if kind == "overlayfs" else "overlay"
    return (f"--root={folder}/root", f"--runroot={folder}/run", f"--storage-driver={driver}")


def _buildah(image: Image, *argv: str) -> None:
    run_long(
        *(*debian.APART, "buildah", *argv),
        what=f"building {image.name}",
        log=cache_root() / "log" / f"image-{image.name}.log",
        seconds=BUILD_SECONDS,
    )


def _store() -> Path:
    return cache_root() / "images"
