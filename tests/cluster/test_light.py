import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate_cluster import binaries
from headgate_cluster.commands import until
from headgate_cluster.errors import ClusterError
from headgate_cluster.light import LightCluster

pytestmark = pytest.mark.apiserver


def test_objects_can_be_written_and_read(kubectl: Callable[..., str]) -> None:
    kubectl("create", "namespace", "written")
    assert "namespace/written\n" == kubectl("get", "namespace", "written", "-o", "name")


def test_the_version_is_the_pinned_one(kubectl: Callable[..., str]) -> None:
    assert f"Server Version: {binaries.KUBERNETES}" in kubectl("version")


def test_a_refusal_shows_the_servers_words(kubectl: Callable[..., str]) -> None:
    with pytest.raises(ClusterError, match='namespaces "nowhere" not found'):
        kubectl("get", "namespace", "nowhere")


class TestOutages:
    @pytest.fixture
    def own(self) -> Iterator[LightCluster]:
        """Not the run's control plane: its other users would see the outage."""
        with LightCluster(binaries.built(binaries.LIGHT)) as cluster:
            yield cluster

    def test_a_paused_server_answers_nobody_until_it_is_resumed(self, own: LightCluster) -> None:
        own.pause()
        with pytest.raises(ClusterError, match=r"(?i)timeout|deadline"):
            own.kubectl("get", "namespaces", "--request-timeout=500ms")
        own.resume()
        assert "namespace/default\n" == own.kubectl("get", "namespace", "default", "-o", "name")

    def test_a_restarted_server_keeps_objects_and_address(self, own: LightCluster) -> None:
        own.kubectl("create", "namespace", "kept")
        own.restart_apiserver()
        assert "namespace/kept\n" == own.kubectl("get", "namespace", "kept", "-o", "name")


def test_controllers_make_what_objects_call_for() -> None:
    with LightCluster(binaries.built(binaries.LIGHT), controllers=True) as cluster:
        cluster.kubectl("create", "namespace", "alive")
        wait = ("wait", "--for=create", "serviceaccount/default", "-n", "alive", "--timeout=60s")
        assert "serviceaccount/default condition met\n" == cluster.kubectl(*wait)


def test_a_server_that_ends_at_once_is_an_error_with_its_last_words() -> None:
    broken = LightCluster(binaries.built(binaries.LIGHT), apiserver_args=["--no-such-flag"])
    with pytest.raises(ClusterError, match="unknown flag: --no-such-flag"):
        broken.start()


def test_a_killed_run_leaves_no_server_behind() -> None:
    script = (
        "import signal\n"
        "from headgate_cluster import binaries\n"
        "from headgate_cluster.light import LightCluster\n"
        "with LightCluster(binaries.built(binaries.LIGHT)) as cluster:\n"
        "    print(*(s.process.pid for s in cluster._servers), flush=True)\n"
        "    signal.pause()\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    servers = [Path("/proc", pid) for pid in run.stdout.readline().split()]
    assert all(server.exists() for server in servers)

    os.kill(run.pid, signal.SIGKILL)
    run.communicate()

    assert 2 == len(servers)
    until(lambda: not any(server.exists() for server in servers), "servers ended", seconds=30)
