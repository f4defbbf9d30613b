"""Kubeconfigs that people really have: half written, of another cluster, or not there."""

from pathlib import Path

import pytest

from headgate_api.errors import TerminalError
from headgate_kube.client import Client

CONFIG = """
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1", certificate-authority-data: %s}}]
users: [{name: a, user: {token: x}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
"""


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="absent"),
        pytest.param("", id="empty"),
        pytest.param("{a: [", id="no YAML"),
        pytest.param("hello", id="a word"),
        pytest.param("current-context: a\ncontexts: []\n", id="unknown context"),
        pytest.param(CONFIG % "x", id="no base64"),
        pytest.param(CONFIG % "aGVsbG8=", id="no certificate"),
    ],
)
async def test_a_kubeconfig_without_sense_is_one_sentence(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)

    with pytest.raises(TerminalError):
        await Client.connect(user_agent="tests", kubeconfig=str(path))
