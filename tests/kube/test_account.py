"""The pod's own account, as the kubelet mounts and rotates it."""

import base64
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from headgate_api.errors import Forbidden, TerminalError
from headgate_cluster.light import LightCluster
from headgate_kube import configuration
from headgate_kube.account import AGAIN, HOST, PORT, PodAccount
from headgate_kube.client import Client
from headgate_kube.resources import PODS

BEARER = "BearerToken"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("first\n")
    return tmp_path


@pytest.mark.parametrize(
    ("host", "url"),
    [("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")],
)
def test_the_api_server_is_where_the_environment_says(folder: Path, host: str, url: str) -> None:
    found = PodAccount({HOST: host, PORT: "6443"}, folder)

    assert (url, str(folder / "ca.crt")) == (found.host, found.ssl_ca_cert)


async def test_a_token_is_read_again_once_it_may_have_rotated(folder: Path) -> None:
    now = 100.0
    found = PodAccount({HOST: "10.0.0.1"}, folder, clock=lambda: now)
    (folder / "token").write_text("second")
    assert "Bearer first" == await found.get_api_key_with_prefix(BEARER)

    now += AGAIN
    assert "Bearer second" == await found.get_api_key_with_prefix(BEARER)


async def test_a_token_that_cannot_be_read_again_is_used_on(folder: Path) -> None:
    now = 100.0
    found = PodAccount({HOST: "10.0.0.1"}, folder, clock=lambda: now)
    (folder / "token").unlink()

    now += AGAIN
    assert "Bearer first" == await found.get_api_key_with_prefix(BEARER)


async def test_a_pod_without_an_account_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv(HOST, "10.0.0.1")
    monkeypatch.setattr(configuration, "PodAccount", partial(PodAccount, folder=tmp_path))

    with pytest.raises(TerminalError, match="the pod's account cannot be read"):
        await configuration.load()


@pytest.mark.apiserver
async def test_a_pod_is_known_to_its_api_server(
    control_plane: LightCluster, namespace: str, tmp_path: Path
) -> None:
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    token = control_plane.kubectl("create", "token", "reader", "-n", namespace)
    (cluster,) = yaml.safe_load(control_plane.kubeconfig.read_text())["clusters"]
    authority = cluster["cluster"]["certificate-authority-data"]
    (tmp_path / "token").write_text(token)
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(authority))
    url = urlsplit(cluster["cluster"]["server"])
    found = PodAccount({HOST: str(url.hostname), PORT: str(url.port)}, tmp_path)

    client = Client(found, user_agent="tests")
    with pytest.raises(Forbidden, match=f"system:serviceaccount:{namespace}:reader"):
        await client.list(PODS, namespace)
    await client.close()
