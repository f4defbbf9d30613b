"""Watches against a real API server: gaps, restarts, and what must never come over the wire."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from headgate_api.errors import Unavailable
from headgate_cluster.light import LightCluster
from headgate_kube import watch as module
from headgate_kube.client import Client, Object
from headgate_kube.resources import CONFIG_MAPS, SECRETS, Resource
from headgate_kube.watch import Change, Gone, Put, Synced, watch

pytestmark = pytest.mark.apiserver
Follow = Callable[..., Awaitable[AsyncIterator[Change]]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.5)


def config_map(name: str, namespace: str, **data: str) -> Object:
    meta = {"name": name, "namespace": namespace, "labels": {"is": "mine"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def told(change: Change) -> str:
    match change:
        case Put(item):
            return f"put {item['metadata']['name']}"
        case Gone(_, name, last):
            return f"gone {name}" + ("" if last else " unseen")
        case Synced():
            return "synced"


@pytest.fixture
async def follow() -> AsyncIterator[Follow]:
    """`follow(client, resource, ...)` watches until the test ends."""
    async with AsyncExitStack() as watches:

        async def start(client: Client, resource: Resource, **asked: Any) -> AsyncIterator[Change]:
            return await watches.enter_async_context(aclosing(watch(client, resource, **asked)))

        yield start


async def following(changes: AsyncIterator[Change]) -> str:
    async with asyncio.timeout(60):
        return told(await anext(changes))


async def test_what_is_there_comes_first_and_changes_follow(
    client: Client, namespace: str, follow: Follow
) -> None:
    await client.apply(config_map("a", namespace), manager="tests")
    changes = await follow(client, CONFIG_MAPS, namespace=namespace, selector="is=mine")
    assert ["put a", "synced"] == [await following(changes) for _ in range(2)]

    await client.apply(config_map("b", namespace), manager="tests")
    await client.apply(config_map("a", namespace, x="1"), manager="tests")
    await client.delete(CONFIG_MAPS, namespace, "b")

    assert ["put b", "put a", "gone b"] == [await following(changes) for _ in range(3)]


class Behind(Client):
    """A client whose first stream starts too late, after a delete that it has not seen."""

    lost: tuple[str, str] | None = None
    streams: int = 0

    async def stream(
        self, *args: Any, version: str, **kwargs: Any
    ) -> AsyncGenerator[tuple[str, Object], None]:
        self.streams += 1
        if self.lost is not None:
            await self.delete(CONFIG_MAPS, *self.lost)
            self.lost, version = None, "1"
        async with aclosing(super().stream(*args, version=version, **kwargs)) as events:
            async for event in events:
                yield event


@pytest.fixture
async def behind(control_plane: LightCluster) -> AsyncIterator[Behind]:
    client = await Behind.connect(user_agent="tests", kubeconfig=str(control_plane.kubeconfig))
    assert isinstance(client, Behind)
    yield client
    await client.close()


async def test_a_delete_in_a_gap_is_told_after_the_server_has_forgotten_where_we_were(
    control_plane: LightCluster, behind: Behind, namespace: str, follow: Follow
) -> None:
    for name in ("a", "b"):
        await behind.apply(config_map(name, namespace), manager="tests")
    control_plane.restart_apiserver()  # it remembers nothing older
    behind.lost = (namespace, "a")
    changes = await follow(behind, CONFIG_MAPS, namespace=namespace, selector="is=mine")

    first = [await following(changes) for _ in range(3)]
    then = [await following(changes) for _ in range(2)]

    assert ["put a", "put b", "synced"] == first
    assert ["gone a unseen", "synced"] == then, "b is as it was: nothing to tell"
    await behind.delete(CONFIG_MAPS, namespace, "b")
    assert "gone b" == await following(changes)


async def test_a_list_repeats_and_tells_only_what_differs(
    client: Client, namespace: str, follow: Follow
) -> None:
    await client.apply(config_map("a", namespace), manager="tests")
    changes = await follow(
        client, CONFIG_MAPS, namespace=namespace, selector="is=mine", relist_every=0.1
    )
    assert ["put a", "synced", "synced"] == [await following(changes) for _ in range(3)]


async def test_a_watch_of_metadata_never_returns_data(
    client: Client, namespace: str, follow: Follow
) -> None:
    def secret(value: str) -> Object:
        meta = {"name": "keys", "namespace": namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"k": value}}

    await client.apply(secret("first"), manager="tests")
    changes = await follow(client, SECRETS, namespace=namespace, metadata_only=True)
    found: list[Put | Gone] = []
    for step in range(3):
        change = await anext(changes)
        while isinstance(change, Synced):
            change = await anext(changes)
        found.append(change)
        if step == 0:
            await client.apply(secret("second"), manager="tests")
            await client.delete(SECRETS, namespace, "keys")
    objects = [change.object for change in found]
    assert [{"apiVersion", "kind", "metadata"}] * 3 == [set(item or ()) for item in objects]
    assert "Secret" == (objects[0] or {})["kind"]


async def test_a_watch_outlives_a_restart_of_the_api_server(
    control_plane: LightCluster, client: Client, namespace: str, follow: Follow
) -> None:
    await client.apply(config_map("a", namespace), manager="tests")
    changes = await follow(client, CONFIG_MAPS, namespace=namespace, selector="is=mine")
    assert ["put a", "synced"] == [await following(changes) for _ in range(2)]

    waiting = asyncio.create_task(following(changes))
    control_plane.restart_apiserver()
    other = await Client.connect(user_agent="tests", kubeconfig=str(control_plane.kubeconfig))
    await other.apply(config_map("b", namespace), manager="tests")
    await other.close()

    # After the restart a new list may come first.
    heard = [await waiting]
    while heard[-1] == "synced":
        heard.append(await following(changes))
    assert "put b" == heard[-1]


class Away(Client):
    """A client of a server that is not there."""

    asked: int = 0

    async def pages(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        self.asked += 1
        raise Unavailable("connection refused")
        yield  # a generator, as the real one


async def test_a_watch_of_an_absent_server_asks_less_and_less_often(
    control_plane: LightCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            enough.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(module, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 15.0)
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    client = await Away.connect(user_agent="tests", kubeconfig=str(control_plane.kubeconfig))
    assert isinstance(client, Away)
    waiting = asyncio.create_task(following(watch(client, CONFIG_MAPS)))
    await enough.wait()
    waiting.cancel()

    assert [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0] == [round(pause, 3) for pause in pauses]
    assert 8 == client.asked
    await client.close()
