"""docs/try.md: its commands run as they stand, but for ports and folders."""

import re
import subprocess
import sys
from pathlib import Path

from headgate_cluster.files import TREE
from headgate_cluster.processes import free_ports

PAGE = (TREE / "docs" / "try.md").read_text()
PORTS = ("8000", "8080", "9090", "8081", "9091")


def test_the_commands_of_the_manual_work_as_they_stand(tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    for port, free in zip(PORTS, free_ports(len(PORTS)), strict=True):
        script = re.sub(rf"\b{port}\b", str(free), script)
    first_gateway = "headgate serve --manifests examples/quickstart "
    ports = re.findall(r"127\.0\.0\.1:(\d+)/v1", script)
    assert first_gateway in script
    admin = free_ports(1)[0]
    script = script.replace(
        first_gateway, f"{first_gateway}--port {ports[0]} --admin-port {admin} "
    )
    script = script.replace("/tmp/", f"{tmp_path}/")  # noqa: S108 - of the manual's reader
    bin_folder = Path(sys.executable).parent

    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; trap 'kill $(jobs -p)' EXIT\n{script}"],
        cwd=TREE,
        env={"PATH": f"{bin_folder}:/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert 0 == done.returncode, done.stderr
    assert '"content":"You said: Hello"' in done.stdout
    assert "model   llama-3-1-8b -> 127.0.0.1:" in done.stderr
    assert "9 objects, 0 findings" not in done.stdout
    assert re.search(r"^\d+ objects, 0 findings$", done.stdout, re.MULTILINE)
