import json
import ssl
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPSConnection
from itertools import count
from pathlib import Path

import pytest

from headgate_api.kinds import KINDS
from headgate_cluster import pki
from headgate_cluster.light import LightCluster

from .manifests import OURS, Manifest

NUMBERS = count()
CRDS = Path(__file__).parents[2] / "crds"


class Server:
    """The API server without kubectl: what it answers, word for word."""

    def __init__(self, url: str, trust: ssl.SSLContext) -> None:
        self._host = url.removeprefix("https://")
        self._trust = trust

    def create(self, manifest: Manifest) -> Manifest:
        """Create the object in `default` (strict, and only as a trial): object, or Status."""
        plural = KINDS[manifest["kind"]].plural
        path = f"/apis/{OURS}/namespaces/default/{plural}?fieldValidation=Strict&dryRun=All"
        with closing(HTTPSConnection(self._host, context=self._trust)) as connection:
            connection.request(
                "POST", path, json.dumps(manifest), {"Content-Type": "application/json"}
            )
            answer: Manifest = json.load(connection.getresponse())
        return answer


@pytest.fixture(scope="session")
def crds(control_plane: LightCluster) -> str:
    """The four CRDs, established. What kubectl printed."""
    said = control_plane.kubectl("apply", "--server-side", "--warnings-as-errors", "-f", str(CRDS))
    control_plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
    return said


@pytest.fixture
def server(control_plane: LightCluster, crds: str) -> Server:
    folder = control_plane.kubeconfig.parent
    return Server(control_plane.server, pki.trust(folder / "pki"))


@pytest.fixture
def kubectl(control_plane: LightCluster, crds: str) -> Callable[..., str]:
    """`kubectl(*args, stdin=None)` in a namespace of the test's own."""
    namespace = f"test-api-{next(NUMBERS)}"
    control_plane.kubectl("create", "namespace", namespace)

    def run(*args: str, stdin: str | None = None) -> str:
        return control_plane.kubectl("-n", namespace, *args, stdin=stdin)

    return run
