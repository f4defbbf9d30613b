"""`make test`: every suite that CI runs, in order, with the time that each took.

Our wheel, Kubernetes and the images are built in the background, at low priority, while the suites
that need nothing but Python run.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
BIN: Final = Path(sys.executable).parent
PYTEST: Final = ("pytest", "-q", "--durations=5")


class Suite(NamedTuple):
    name: str
    commands: tuple[tuple[str, ...], ...]


QUICK: Final = (
    Suite("lint", (("ruff", "format", "--check"), ("ruff", "check"), ("mypy",), ("lint-imports",))),
    Suite("verify", (("python", "-m", "headgate_api.generate", "--check"),)),
    Suite("unit", ((*PYTEST, "-m", "not (apiserver or triton or cluster or valkey or compiled)"),)),
    Suite("compiled", (("python", "-m", "e2e.compiled"),)),
)
REAL: Final = (
    Suite("real", ((*PYTEST, "-m", "apiserver or triton or valkey"),)),
    Suite("e2e", ((*PYTEST, "-m", "cluster", "tests/cluster", "e2e"),)),
)
GROUND: Final = tuple(("headgate", "cluster", part) for part in ("wheel", "binaries", "images"))


def run(suite: Suite) -> bool:
    """Run all commands of the suite, also after one has failed: a reader wants every finding."""
    results = [call(command) for command in suite.commands]
    return all(results)


def call(command: tuple[str, ...]) -> bool:
    print(f"$ {' '.join(command)}", flush=True)
    argv = [str(BIN / command[0]), *command[1:]]
    return 0 == subprocess.run(argv, cwd=ROOT, check=False).returncode


def start_ground(log: Path) -> subprocess.Popen[bytes]:
    """Start to build what the real suites stand on; its output goes to `log`."""
    print(f"building Kubernetes and the images in the background, see {log}", flush=True)
    script = " && ".join(f"{BIN / command[0]} {' '.join(command[1:])}" for command in GROUND)
    with log.open("wb") as out:
        return subprocess.Popen(
            ["nice", "-n", "5", "bash", "-c", script], cwd=ROOT, stdout=out, stderr=out
        )


def wait_for_ground(builder: subprocess.Popen[bytes], log: Path) -> bool:
    """Wait for the builder, and show the newest line of its log as progress."""
    shown = ""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            builder.wait(timeout=5)
        lines = log.read_text(errors="replace").splitlines()
        if lines and lines[-1] != shown:
            shown = lines[-1]
            print(f"  ground: {shown}", flush=True)
        if builder.returncode is not None:
            if builder.returncode:
                print(*lines[-40:], sep="\n", flush=True)
            return builder.returncode == 0


def main() -> int:
    times: list[tuple[str, float, bool]] = []

    def timed(name: str, work: Callable[[], bool]) -> bool:
        started = time.monotonic()
        good = work()
        times.append((name, time.monotonic() - started, good))
        return good

    with tempfile.TemporaryDirectory(prefix="headgate-test-") as folder:
        log = Path(folder) / "ground.log"
        builder = start_ground(log)
        try:
            for suite in QUICK:
                timed(suite.name, partial(run, suite))
            if timed("ground", partial(wait_for_ground, builder, log)):
                for suite in REAL:
                    timed(suite.name, partial(run, suite))
        finally:
            builder.kill()
            builder.wait()
    print("\nsuite      seconds  result")
    for name, seconds, good in times:
        print(f"{name:<9} {seconds:8.1f}  {'passed' if good else 'FAILED'}")
    return 0 if all(good for _, _, good in times) and len(times) > len(QUICK) + 1 else 1


if __name__ == "__main__":
    sys.exit(main())
