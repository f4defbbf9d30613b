"""docs/explain.md: its commands run as they stand, but for ports and folders."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from headgate_cluster.files import TREE
from headgate_cluster.processes import free_ports
from headgate_gateway.explain.explanation import Part

PAGE: Final = (TREE / "docs" / "explain.md").read_text()
SHOWN: Final = re.findall(r"^```\n(A chat .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PORTS: Final = ("8000", "8080", "9090")


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the page's commands print."""
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    free = [str(port) for port in free_ports(len(PORTS))]
    serve = "headgate serve --manifests examples/quickstart "
    assert serve in script
    script = script.replace(serve, f"{serve}--port 8080 --admin-port 9090 ")
    for port, other in zip(PORTS, free, strict=True):
        script = re.sub(rf"\b{port}\b", other, script)
    folder = tmp_path_factory.mktemp("explain")
    script = script.replace("/tmp/", f"{folder}/")  # noqa: S108 - of the manual's reader
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; trap 'kill $(jobs -p)' EXIT\n{script}"],
        cwd=TREE,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_a_rehearsal_says_what_the_page_says(printed: str) -> None:
    (shown,) = SHOWN
    assert printed.startswith(shown)


def test_a_request_that_was_made_is_explained_in_words_and_as_json(printed: str) -> None:
    assert re.search(r'^Request [0-9a-f]{16}-1: A chat for the model "ll', printed, re.MULTILINE)
    found = json.loads(printed[printed.index("\n{\n") :].partition("\n}\n")[0] + "\n}")
    assert ("llama-3-1-8b", "ok") == (found["model"], found["outcome"]["code"])


def test_the_page_names_every_field() -> None:
    fields = {
        field.encode_name
        for part in Part.__subclasses__()
        for field in msgspec.structs.fields(part)
    }
    section = PAGE.partition("## The fields")[2]
    assert [] == sorted(name for name in fields if not re.search(rf"`{name}(\[\])?`", section))
