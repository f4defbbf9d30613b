from collections.abc import AsyncIterator
from itertools import count

import pytest

from headgate_cluster.light import LightCluster
from headgate_kube.client import Client
from headgate_kube.resources import NAMESPACES

NUMBERS = count(1)


@pytest.fixture
async def client(control_plane: LightCluster) -> AsyncIterator[Client]:
    client = await Client.connect(user_agent="tests", kubeconfig=str(control_plane.kubeconfig))
    yield client
    await client.close()


@pytest.fixture
async def namespace(client: Client) -> str:
    """A namespace of the test's own."""
    name = f"kube-{next(NUMBERS)}"
    await client.create(NAMESPACES, None, {"metadata": {"name": name}})
    return name
