"""A real Triton server without a cluster around it: for tests of what talks to Triton.

The server and its Python backend come from the wheel nvidia-pytriton, which our image of the
simulator holds too. It needs no GPU and serves Python models only.
"""

import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from headgate_cluster import packages
from headgate_cluster.binaries import pip_install
from headgate_cluster.commands import run, say
from headgate_cluster.errors import ClusterError
from headgate_cluster.files import TREE, cache_root, digest_of, locked
from headgate_cluster.processes import Server, free_ports

PINS: Final = TREE / "requirements" / "triton-sim.txt"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
START_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Installation:
    """A virtual environment that holds the server, and numpy for the models."""

    folder: Path
    libpython: Path
    """The folder with libpython, which the backend's stub is linked to."""

    @property
    def home(self) -> Path:
        """What is /opt/tritonserver in an image: bin/ and backends/."""
        return self.folder / "lib" / f"python{PYTHON}" / "site-packages" / "pytriton/tritonserver"


def installed() -> Installation:
    """Return the installation in the cache.

    Raises:
        ClusterError: it is not there; fetching takes a while, so nobody does it by surprise.
    """
    folder, library = _folder(), _libpython()
    if not folder.exists() or library is None:
        raise ClusterError("Triton is not here yet; run `make binaries` first")
    return Installation(folder, library)


def install() -> Installation:
    """Fetch the wheels of requirements/triton-sim.txt into the cache, unless they are there."""
    if _libpython() is None:
        library = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/libpython{PYTHON}.so.1.0"
        packages.ensure({library: f"libpython{PYTHON}"})
    folder = _folder()
    with locked(folder.parent / "lock"):
        if not folder.exists():
            say("fetching Triton")
            half = folder.with_name(f"{folder.name}.half")
            shutil.rmtree(half, ignore_errors=True)
            run(sys.executable, "-m", "venv", "--without-pip", half)
            pip_install(half / "lib" / f"python{PYTHON}" / "site-packages", PINS)
            place_stub(half / "lib" / f"python{PYTHON}" / "site-packages" / "pytriton/tritonserver")
            half.rename(folder)
    return installed()


def place_stub(home: Path) -> None:
    """Put the stub of our Python where the backend looks for it, and drop the other ones."""
    name = "triton_python_backend_stub"
    stubs = home / "python_backend_stubs"
    (stubs / PYTHON / name).rename(home / "backends" / "python" / name)
    shutil.rmtree(stubs)


class Triton:
    """One server over one model repository, on ports of loopback that nobody else uses."""

    def __init__(
        self,
        repository: Path,
        extra_args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        installation: Installation | None = None,
    ) -> None:
        self._installation = installation or installed()
        self._repository = repository
        self._extra_args = tuple(extra_args)
        self._env = dict(env or {})
        self._folder = Path(tempfile.mkdtemp(prefix="headgate-triton-"))
        self._server: Server | None = None
        self.http = self.grpc = self.metrics = 0
        """Ports; 0 until `start()`."""

    @property
    def log(self) -> Path:
        return self._folder / "tritonserver.log"

    @property
    def pid(self) -> int:
        """The server process, for tests that kill or stop it."""
        if self._server is None:
            raise ClusterError("this Triton is not running")
        return self._server.process.pid

    def start(self) -> Self:
        """Start the server and return when it is ready: what it loads at its start is loaded."""
        for attempt in (1, 2, 3):
            try:
                self._start()
            except ClusterError as error:
                self._end()
                # Between our choice of a port and the server's bind another process may take it.
                if "in use" not in str(error) or attempt == 3:
                    self.stop()
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                break
        return self

    def stop(self) -> None:
        """End the server and its stubs, and remove what they leave in shared memory."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.http, self.grpc, self.metrics = free_ports(3)
        home = self._installation.home
        self._server = Server.start(
            "tritonserver",
            home / "bin" / "tritonserver",
            f"--model-repository={self._repository}",
            f"--backend-directory={home}/backends",
            f"--backend-config=python,shm-region-prefix-name={self._folder.name}",
            *("--http-address=127.0.0.1", f"--http-port={self.http}"),
            *("--grpc-address=127.0.0.1", f"--grpc-port={self.grpc}"),
            *("--metrics-address=127.0.0.1", f"--metrics-port={self.metrics}"),
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            *self._extra_args,
            folder=self._folder,
            # The stub ignores PYTHONPATH; the first python3 on PATH decides its prefix.
            PATH=f"{self._installation.folder}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            LD_LIBRARY_PATH=str(self._installation.libpython),
            **self._env,
        )
        url = f"http://127.0.0.1:{self.http}/v2/health/ready"
        self._server.wait_for(url, seconds=START_SECONDS)

    def _end(self) -> None:
        if self._server is not None:
            self._server.stop()  # a polite end takes 3 s and leaves no more than this
            self._server = None
        for region in Path("/dev/shm").glob(f"{self._folder.name}*"):  # noqa: S108 - its own name
            region.unlink(missing_ok=True)


def _folder() -> Path:
    return cache_root() / "triton" / digest_of([PINS], TREE, PYTHON, sys.base_prefix)


def _libpython() -> Path | None:
    places = (
        sysconfig.get_config_var("LIBDIR"),
        f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}",
    )
    for place in map(Path, filter(None, places)):
        if (place / f"libpython{PYTHON}.so.1.0").exists():
            return place
    return None
