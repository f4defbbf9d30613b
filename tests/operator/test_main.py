"""The program: how it ends. It runs on uvloop, against a real API server."""

import json
import sysconfig
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import yaml
from structlog.testing import capture_logs

from headgate_cluster.commands import until
from headgate_cluster.light import LightCluster
from headgate_cluster.processes import Server, free_ports
from headgate_operator import main
from headgate_operator.lease import LeaseLost
from headgate_operator.settings import Settings

PROGRAM = Path(sysconfig.get_path("scripts")) / "headgate-operator"
SECONDS = 60.0  # for what takes one; a test that hangs must end
Start = Callable[..., Server]


@pytest.fixture
def start(crds: LightCluster, tmp_path: Path) -> Iterator[Start]:
    """`start(NAME=value)` runs the program with such settings."""
    with ExitStack() as running:

        def started(kubeconfig: Path | None = None, **more: str) -> Server:
            settings = {
                "NAMESPACE": "default",
                "REGION": "here",
                "RUNTIME_IMAGE": "none",
                "TRTLLM_SERVE_IMAGE": "none",
                **more,
            }
            env = {f"HEADGATE_OPERATOR_{name}": value for name, value in settings.items()}
            env["KUBECONFIG"] = str(kubeconfig or crds.kubeconfig)
            server = Server.start("operator", PROGRAM, folder=tmp_path, **env)
            running.callback(server.stop)
            return server

        yield started


def said(server: Server, *levels: str) -> list[dict[str, Any]]:
    """Lines of the log; whatever is not structured fails here."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line for line in lines if line["level"] in levels]


@pytest.mark.apiserver
def test_a_stop_by_signal_is_no_failure(start: Start) -> None:
    (port,) = free_ports(1)
    server = start(PORT=str(port), LEASE="stopped")
    server.wait_for(f"http://127.0.0.1:{port}/readyz", seconds=SECONDS)

    server.process.terminate()

    assert 0 == server.process.wait(SECONDS)
    assert [] == said(server, "error", "critical")


@pytest.mark.apiserver
def test_a_task_that_fails_ends_the_program_with_one_line(start: Start) -> None:
    server = start(PORT="0", OWNER="nobody", LEASE="failed")

    assert 1 == server.process.wait(SECONDS)
    (line,) = said(server, "warning", "error", "critical")
    assert "the operator ends" == line["event"]
    assert 'NotFound: configmaps "nobody" not found' == line["error"]


@pytest.mark.apiserver
def test_rights_that_are_missing_are_named_once_and_waited_for(
    start: Start, crds: LightCluster, tmp_path: Path
) -> None:
    account = ("default", "powerless")
    crds.kubectl("create", "serviceaccount", "-n", *account)
    config = yaml.safe_load(crds.kubeconfig.read_text())
    token = crds.kubectl("create", "token", "-n", *account).strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    kubeconfig = tmp_path / "powerless"
    kubeconfig.write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    readyz = f"http://127.0.0.1:{port}/readyz"
    server = start(kubeconfig, PORT=str(port), LEASE="powerless")

    def named() -> bool:
        try:
            with urllib.request.urlopen(readyz):
                return False
        except HTTPError as error:
            why = error.read().decode()
        kinds = ("modeldeployments", "tenantquotas", "pods", "nodes")
        return all(f'cannot list resource "{kind}"' in why for kind in kinds)

    until(named, "every right that is missing", seconds=SECONDS)
    subject = ":".join(account)
    crds.kubectl(
        *("create", "clusterrolebinding", "powerless"),
        *("--clusterrole=cluster-admin", f"--serviceaccount={subject}"),
    )
    server.wait_for(readyz, seconds=SECONDS)
    crds.kubectl("delete", "clusterrolebinding", "powerless")

    ours = [line for line in said(server, "warning", "error") if "kopf" not in line["logger"]]
    told = [line["error"] for line in ours]
    assert any('cannot list resource "secrets"' in error for error in told)
    assert sorted(set(told)) == sorted(told), "each is told once"


class Broken:
    """In place of the operator."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *_: Any, **__: Any) -> "Broken":
        return self

    async def run(self, *_: Any, **__: Any) -> None:
        raise ExceptionGroup("tasks", [self.error])


class FakeClient:
    closed = False

    async def connect(self, **_: Any) -> "FakeClient":
        return self

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("error", "event", "traced"),
    [
        (LeaseLost("not renewed"), "the operator ends", False),
        (ValueError("a bug"), "the operator broke", True),
    ],
)
async def test_every_failure_closes_connections_and_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    event: str,
    traced: bool,
) -> None:
    client = FakeClient()
    monkeypatch.setattr(main, "Client", client)
    monkeypatch.setattr(main, "Operator", Broken(error))

    with capture_logs() as lines:
        code = await main._run(
            Settings(namespace="n", region="r", runtime_image="i", trtllm_serve_image="i")
        )

    (line,) = lines
    assert (1, True) == (code, client.closed)
    assert (event, f"{type(error).__name__}: {error}") == (line["event"], line["error"])
    assert traced == ("exc_info" in line)
