"""What tests of the operator share: the real API server with our kinds, and whole processes."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headgate_cluster.light import LightCluster
from headgate_kube.client import Client
from headgate_kube.resources import BY_KIND, NAMESPACES
from headgate_operator.process import Operator
from headgate_operator.settings import Settings

from .fakes import MODELS, TENANTS, FakeGateways, FakeProbe

ON_ASYNCIO = "asyncio"
"""What `anyio_backend` is where whole processes stop in a test's loop: uvloop 0.23 leaks each TLS
handshake that is cancelled, and fails to close such a loop (about 1 of 50 stops). The programs
themselves run on uvloop in `test_main.py` and in `tests/charts/test_rights.py`.
"""
CRDS = Path(__file__).parents[2] / "crds"
NUMBERS = count(1)
PLURALS = {resource.plural for resource in BY_KIND.values()}


@pytest.fixture(scope="session")
def crds(control_plane: LightCluster) -> LightCluster:
    """The control plane with our four kinds."""
    control_plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    control_plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
    return control_plane


@pytest.fixture
async def client(crds: LightCluster) -> AsyncIterator[Client]:
    client = await Client.connect(user_agent="tests", kubeconfig=str(crds.kubeconfig))
    yield client
    await client.close()


@pytest.fixture
async def namespace(client: Client) -> str:
    """A namespace of the test's own."""
    name = f"operator-{next(NUMBERS)}"
    await client.create(NAMESPACES, None, {"metadata": {"name": name}})
    return name


class Counted(Client):
    """A client that remembers what it asked, as "GET pods"."""

    asked: Counter[str]

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, *args: Any, **kwargs: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        words = path.split("/")
        plural = words[-1] if method == "POST" else next(w for w in reversed(words) if w in PLURALS)
        self.asked[f"{method} {plural}"] += 1
        async with super()._answer(method, path, *args, **kwargs) as answer:
            yield answer

    @property
    def writes(self) -> Counter[str]:
        """All writes but those of the lease, which never rests."""
        rest = {k: n for k, n in self.asked.items() if not k.startswith("GET ")}
        return Counter({k: n for k, n in rest.items() if not k.endswith(" leases")})


class Running(Operator):
    """An operator in this process, with fakes for what it asks other than the API server."""

    client: Counted
    ask: FakeGateways
    probe: FakeProbe
    task: asyncio.Task[None]
    stop: asyncio.Event


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def operator(crds: LightCluster, namespace: str) -> AsyncIterator[Start]:
    """`await operator(**settings)` runs one more operator until the test ends."""
    async with AsyncExitStack() as running:

        async def start(controllers: Any = (MODELS, TENANTS), **settings: Any) -> Running:
            return await running.enter_async_context(
                _running(crds, namespace, controllers, settings)
            )

        yield start


@asynccontextmanager
async def _running(
    crds: LightCluster, namespace: str, controllers: Any, settings: dict[str, Any]
) -> AsyncIterator[Running]:
    given = {
        "namespace": namespace,
        "region": "here",
        "runtime_image": "none",
        "trtllm_serve_image": "none",
        "host": "127.0.0.1",
        "port": 0,
        "identity": f"operator-{next(NUMBERS)}",
        "lease_duration": 3.0,
        "renew_deadline": 2.0,
        "retry_period": 0.2,
    }
    client = await Counted.connect(user_agent="operator", kubeconfig=str(crds.kubeconfig))
    assert isinstance(client, Counted)
    client.asked = Counter()
    ask, probe, stop = FakeGateways(), FakeProbe(), asyncio.Event()
    process = Running(Settings(**given | settings), client, controllers, ask=ask, probe=probe)
    process.ask, process.probe, process.stop = ask, probe, stop
    process.task = asyncio.create_task(process.run(stop, started=lambda: None))
    try:
        yield process
    finally:
        stop.set()
        await asyncio.wait([process.task])
        await client.close()
        await _end_connections()


async def _end_connections() -> None:
    """Close what cancelled requests leave open.

    asyncio forgets that a TLS transport was closed before its handshake began (seen with CPython
    3.11): it goes on to connect, nobody has it, and its socket is never closed.
    """
    for found in gc.get_objects():
        if issubclass(type(found), asyncio.Transport) and found.is_closing():
            found.abort()
    await asyncio.sleep(0)  # the loop closes their sockets in its next turn
