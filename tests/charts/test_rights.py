"""Both programs run with the rights that the chart gives their accounts, on a real API server."""

import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError

import pytest
import yaml

from headgate_api.labels import GATEWAY_AUDIENCE
from headgate_cluster.commands import until
from headgate_cluster.errors import ClusterError
from headgate_cluster.light import LightCluster
from headgate_cluster.processes import Server, free_ports

from .helm import BIN, NAMESPACE, ROOT, render

pytestmark = pytest.mark.apiserver

PROGRAMS = {"operator": ("headgate-operator",), "gateway": ("headgate", "serve")}


def token(cluster: LightCluster, part: str, *more: str) -> str:
    return cluster.kubectl("create", "token", f"headgate-{part}", "-n", NAMESPACE, *more).strip()


def for_gateways(cluster: LightCluster, part: str) -> str:
    """What the kubelet puts into the part's pod, if it may have one at all."""
    return token(cluster, part, f"--audience={GATEWAY_AUDIENCE}")


def kubeconfig(cluster: LightCluster, part: str, folder: Path, bearer: str) -> Path:
    """Access to the API server with a token of the part's service account."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": bearer}
    path = folder / f"{part}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def get(url: str, bearer: str = "") -> int:
    headers = {"Authorization": f"Bearer {bearer}"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - on loopback
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


@pytest.fixture
def start(release: LightCluster, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a program with the environment that the chart gives it, but for ports and folders."""
    with ExitStack() as running:

        def started(part: str, **more: str) -> Server:
            settings = {item["name"]: item["value"] for item in render().container(part)["env"]}
            settings |= {f"HEADGATE_{part.upper()}_{name}": value for name, value in more.items()}
            access = kubeconfig(release, part, tmp_path, token(release, part))
            settings |= {"KUBECONFIG": str(access)}
            program, *arguments = PROGRAMS[part]
            server = Server.start(part, BIN / program, *arguments, folder=tmp_path, **settings)
            running.callback(server.stop)
            return server

        yield started


def test_the_programs_get_along_with_the_rights_of_their_accounts(
    release: LightCluster, start: Callable[..., Server], tmp_path: Path
) -> None:
    operator_port, port, admin_port = free_ports(3)
    operator = start("operator", PORT=str(operator_port))
    operator.wait_for(f"http://127.0.0.1:{operator_port}/readyz", seconds=60)

    def kubectl(*arguments: str) -> str:
        return release.kubectl("-n", NAMESPACE, *arguments)

    def deployments() -> list[str]:
        return kubectl("get", "deploy", "-l", "headgate.dev/model", "-o", "name").split()

    # Every verb on children: they are created, changed, scaled down and deleted.
    kubectl("apply", "-f", str(ROOT / "examples" / "quickstart"))
    until(lambda: 1 == len(deployments()), "the first cohort", seconds=60)
    image = {"spec": {"runtime": {"image": "registry.example/triton:2"}}}
    kubectl("patch", "mdep", "llama-3-1-8b", "--type=merge", "-p", yaml.safe_dump(image))
    until(lambda: 2 == len(deployments()), "a second cohort", seconds=60)
    kubectl("patch", "mdep", "llama-3-1-8b", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(lambda: 1 == len(deployments()), "the old cohort's end", seconds=60)

    gateway = start(
        "gateway", PORT=str(port), ADMIN_PORT=str(admin_port), SNAPSHOT_DIR=str(tmp_path)
    )
    gateway.wait_for(f"http://127.0.0.1:{admin_port}/readyz", seconds=60)
    report = f"http://127.0.0.1:{admin_port}/snapshot"
    asked = {part: get(report, for_gateways(release, part)) for part in PROGRAMS}
    for_the_api_server = get(report, token(release, "operator"))
    explaining = for_gateways(release, "explain")
    unknown = f"http://127.0.0.1:{admin_port}/debug/requests/nobodys"
    kubectl("delete", "-f", str(ROOT / "examples" / "quickstart"))

    assert {"operator": 200, "gateway": 403} == asked
    assert (403, 404) == (get(report, explaining), get(unknown, explaining))
    assert 401 == for_the_api_server
    assert 401 == get(report, "made-up")
    for program in (operator, gateway):
        said = program.log.read_text().lower().splitlines()
        assert [] == [line for line in said if re.search(r"forbidden|\b403\b", line)]


@pytest.mark.parametrize("made_for", ["the API server", "gateways"])
def test_the_api_server_takes_no_token_that_is_shown_to_gateways(
    release: LightCluster, tmp_path: Path, made_for: str
) -> None:
    """It goes over plain HTTP to whatever pod has a gateway's labels."""
    make = token if made_for == "the API server" else for_gateways
    access = kubeconfig(release, "operator", tmp_path, make(release, "operator"))

    def ask() -> str:
        return release.kubectl("get", "pods", "-n", NAMESPACE, f"--kubeconfig={access}")

    if made_for == "gateways":
        with pytest.raises(ClusterError, match="must be logged in"):
            ask()
    else:
        assert "" == ask()
