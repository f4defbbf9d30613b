import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate_cluster.commands import until
from headgate_cluster.errors import ClusterError
from headgate_cluster.triton import Triton

pytestmark = pytest.mark.triton

CONFIG = """
backend: "python"
max_batch_size: 0
input [{ name: "text_input" data_type: TYPE_STRING dims: [1] }]
output [{ name: "text_output" data_type: TYPE_STRING dims: [1] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""
MODEL = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb.InferenceResponse(
                [pb.Tensor("text_output", pb.get_input_tensor_by_name(r, "text_input").as_numpy())]
            )
            for r in requests
        ]
"""


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A repository with one model that answers what it was asked."""
    (tmp_path / "echo" / "1").mkdir(parents=True)
    (tmp_path / "echo" / "config.pbtxt").write_text(CONFIG)
    (tmp_path / "echo" / "1" / "model.py").write_text(MODEL)
    return tmp_path


def shared_memory(folder_of_log: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{folder_of_log}*"))  # noqa: S108 - its own name


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_python_model_answers(triton: Callable[..., Triton], echo: Path) -> None:
    server = triton(echo)
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http}/v2/models/echo/generate",
        data=json.dumps({"text_input": "rivers"}).encode(),
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - ours
        assert "rivers" == json.load(answer)["text_output"]


def test_a_stopped_server_leaves_no_process_and_no_shared_memory(echo: Path) -> None:
    server = Triton(echo).start()
    name = server.log.parent.name
    group = os.getpgid(server.pid)
    assert shared_memory(name)

    server.stop()

    until(lambda: not alive(group), "server and stub ended", seconds=30)
    assert [] == shared_memory(name)


def test_a_model_that_does_not_load_is_an_error_with_its_reason(
    triton: Callable[..., Triton], echo: Path
) -> None:
    (echo / "echo" / "1" / "model.py").write_text("raise RuntimeError('no weights here')")
    with pytest.raises(ClusterError, match="no weights here"):
        triton(echo)


def test_a_killed_run_leaves_no_server_behind(echo: Path) -> None:
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from headgate_cluster.triton import Triton\n"
        "with Triton(Path(sys.argv[1])) as server:\n"
        "    print(server.pid, flush=True)\n"
        "    signal.pause()\n"
    )
    argv = [sys.executable, "-c", script, str(echo)]
    run = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    group = int(run.stdout.readline())

    os.kill(run.pid, signal.SIGKILL)
    run.communicate()

    until(lambda: not alive(group), "server and stub ended", seconds=30)
