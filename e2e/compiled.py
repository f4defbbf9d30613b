"""`make compiled`: unit tests of what is compiled, with the very modules that the images have."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from headgate_cluster import ours
from headgate_cluster.debian import PYTHON

ROOT: Final = Path(__file__).parent.parent
TESTS: Final = ("tests/gateway", "tests/policy")
REAL: Final = "apiserver or triton or cluster or valkey"


def main() -> int:
    if (running := f"{sys.version_info.major}.{sys.version_info.minor}") != PYTHON:
        print(f"not run: what is compiled is for Python {PYTHON}, and this is {running}")
        return 0
    # Before the checkout, of which the other packages come.
    path = os.pathsep.join(filter(None, [str(ours.unpacked()), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", "-q", "--durations=5", "-m", f"not ({REAL})"]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run([*command, *TESTS], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
