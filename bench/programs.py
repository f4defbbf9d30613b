"""Our programs as processes of their own, and what the system tells about them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from headgate_cluster import ours
from headgate_cluster.debian import PYTHON
from headgate_cluster.files import cache_root

ROOT: Final = Path(__file__).parent.parent
BIN: Final = Path(sys.executable).parent
DEBIAN: Final = Path("/usr/bin/python3")
VERSION: Final = sys.version_info[:2]
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Program:
    """One that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def resident_kib(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", self._of_the_kernel("status"))
        assert found, f"{self.log.stem} has ended: {self.log.read_text()[-2000:]}"
        return int(found.group(1))

    @property
    def cpu_seconds(self) -> float:
        """Of all threads, since the start."""
        fields = self._of_the_kernel("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def log_lines(self) -> int:
        return self.log.read_bytes().count(b"\n")

    def _of_the_kernel(self, file: str) -> str:
        return Path(f"/proc/{self.process.pid}/{file}").read_text()


def image_python() -> tuple[Path, dict[str, str]]:
    """Find the interpreter of our images, and what it needs to run our packages as they hold them.

    It is Debian's, which is built for speed; the one of the virtual environment may not be. Where
    Debian's is missing, or another version, the environment's is taken. What is compiled runs in
    the images' version alone: any other gets the sources.
    """
    compiled = [str(ours.unpacked())] if f"{VERSION[0]}.{VERSION[1]}" == PYTHON else []
    ask = [str(DEBIAN), "-c", "import sys; print(sys.version_info[:2])"]
    if DEBIAN.exists() and subprocess.check_output(ask, text=True).strip() == str(VERSION):
        away = (sys.base_prefix, sys.prefix)
        sources = [path for path in sys.path if path and not path.startswith(away)]
        packages = [*compiled, *sources, str(image_packages())]
        # As pip does in images: a start that compiles Python keeps 2 MiB more.
        subprocess.check_call([DEBIAN, "-m", "compileall", "-q", *compiled, image_packages()])
        return DEBIAN, {"PYTHONPATH": os.pathsep.join(packages)}
    return BIN / "python", {"PYTHONPATH": os.pathsep.join(compiled)}


@cache
def image_packages() -> Path:
    """Link the packages of the gateway's image into a folder, and those that judge manifests.

    Our environment has more, and some load what they find: structlog takes 4 MiB more with rich.
    """
    folder = cache_root() / "bench" / "image"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    locked = (ROOT / "requirements" / "gateway.txt").read_text()
    for name in [*re.findall(r"^([\w.-]+)==", locked, re.MULTILINE), "cel-expr-python"]:
        with suppress(PackageNotFoundError):  # it is for other systems
            found = distribution(name)
            for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                if not (folder / top).exists():  # several share a namespace
                    (folder / top).symlink_to(Path(str(found.locate_file(top))))
    return folder


class Programs:
    """Starts programs against one cluster, and ends them all."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self.folder = folder
        self._running: list[Program] = []

    def start(
        self, name: str, command: str, *arguments: str, settings: Mapping[str, str]
    ) -> Program:
        """Start one from the virtual environment. Its log goes to a file."""
        path = self.folder / f"{name}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [BIN / command, *arguments],
                env=self._environment | dict(settings),
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        self._running.append(Program(process, path))
        return self._running[-1]

    def stop(self) -> None:
        for program in self._running:
            program.process.kill()
            program.process.wait()


def metric(text: str, name: str, **labels: str) -> float:
    """Sum the samples of a metric, in Prometheus' text, that have these labels.

    >>> metric('a{kind="x",verb="y"} 2.0\\na{kind="z",verb="y"} 3.0', "a", verb="y")
    5.0
    """
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    lines = (line.rpartition(" ") for line in text.splitlines() if re.match(rf"{name}[{{ ]", line))
    return sum(float(value) for series, _, value in lines if all(w in series for w in wanted))
