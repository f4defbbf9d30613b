"""The client against a real API server, and against answers that a real one seldom gives."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from headgate_api.errors import (
    Conflict,
    Forbidden,
    HeadgateError,
    Invalid,
    NotFound,
    Unavailable,
)
from headgate_cluster.light import LightCluster
from headgate_kube import client as module
from headgate_kube.client import Client, Object
from headgate_kube.failures import Expired
from headgate_kube.resources import (
    CONFIG_MAPS,
    EVENTS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    TOKEN_REVIEWS,
)

apiserver = pytest.mark.apiserver


def config_map(name: str, namespace: str, **data: str) -> Object:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


@apiserver
async def test_objects_come_with_their_kind_and_without_managed_fields(
    client: Client, namespace: str
) -> None:
    await client.apply(config_map("a", namespace, x="1"), manager="tests")
    (found,), version = await client.list(CONFIG_MAPS, namespace)
    assert ("v1", "ConfigMap", {"x": "1"}) == (found["apiVersion"], found["kind"], found["data"])
    assert "managedFields" not in found["metadata"]
    assert int(version) >= int(found["metadata"]["resourceVersion"])


@apiserver
async def test_a_list_of_metadata_holds_no_data(client: Client, namespace: str) -> None:
    await client.apply(config_map("a", namespace, x="1"), manager="tests")
    (found,), _ = await client.list(CONFIG_MAPS, namespace, metadata_only=True)
    assert {"apiVersion", "kind", "metadata"} == set(found)
    assert "ConfigMap" == found["kind"]
    assert ([],) == (await client.list(CONFIG_MAPS, "nowhere", metadata_only=True))[:1]


@apiserver
async def test_a_long_list_comes_in_pages(
    client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for number in range(5):
        await client.apply(config_map(f"a{number}", namespace), manager="tests")
    pages = [len(page) async for page, _ in client.pages(CONFIG_MAPS, namespace)]
    assert [2, 2, 1] == pages


@apiserver
async def test_a_field_that_the_kind_lacks_is_refused_by_name(
    client: Client, namespace: str
) -> None:
    with pytest.raises(Invalid, match=r"\.dada: field not declared in schema"):
        await client.apply({**config_map("a", namespace), "dada": {}}, manager="tests")


@apiserver
async def test_without_force_a_field_of_somebody_else_is_a_conflict(
    client: Client, namespace: str
) -> None:
    await client.apply(config_map("a", namespace, x="1"), manager="one")
    with pytest.raises(Conflict, match='conflict with "one"'):
        await client.apply(config_map("a", namespace, x="2"), manager="two", force=False)
    taken = await client.apply(config_map("a", namespace, x="3"), manager="two")
    assert {"x": "3"} == taken["data"]


@apiserver
async def test_a_write_over_an_old_version_is_a_conflict(client: Client, namespace: str) -> None:
    old = await client.create(CONFIG_MAPS, namespace, config_map("a", namespace, x="1"))
    await client.replace(CONFIG_MAPS, {**old, "data": {"x": "2"}})
    with pytest.raises(Conflict):
        await client.replace(CONFIG_MAPS, {**old, "data": {"x": "3"}})
    merged = await client.merge(CONFIG_MAPS, namespace, "a", {"data": {"y": "1"}})
    assert {"x": "2", "y": "1"} == merged["data"]
    with pytest.raises(Conflict, match="already exists"):
        await client.create(CONFIG_MAPS, namespace, config_map("a", namespace))


@apiserver
async def test_what_is_not_there_is_not_found(client: Client, namespace: str) -> None:
    with pytest.raises(NotFound, match='pods "none" not found'):
        await client.get(PODS, namespace, "none")


@apiserver
async def test_deleting_says_whether_there_was_anything(client: Client, namespace: str) -> None:
    made = await client.create(CONFIG_MAPS, namespace, config_map("a", namespace))
    assert not await client.delete(CONFIG_MAPS, namespace, "a", uid="another")
    assert await client.delete(CONFIG_MAPS, namespace, "a", uid=made["metadata"]["uid"])
    assert not await client.delete(CONFIG_MAPS, namespace, "a")


@apiserver
async def test_an_answer_is_a_value_error_of_nobody_when_the_object_is_invalid(
    client: Client, namespace: str
) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "namespace": namespace},
        "spec": {"ports": [{"port": 0}]},
    }
    with pytest.raises(Invalid, match=r"spec\.ports\[0\]\.port: Invalid value: 0"):
        await client.create(SERVICES, namespace, service)


@apiserver
async def test_a_token_is_for_its_audience_and_a_pod_is_asked_through_the_server(
    client: Client, namespace: str
) -> None:
    await client.create(SERVICE_ACCOUNTS, namespace, {"metadata": {"name": "reader"}})
    token = await client.token(namespace, "reader", "somebody")
    review = {"spec": {"token": token, "audiences": ["somebody"]}}
    seen = await client.create(TOKEN_REVIEWS, None, review)
    assert ["somebody"] == seen["status"]["audiences"]
    assert f"system:serviceaccount:{namespace}:reader" == seen["status"]["user"]["username"]

    with pytest.raises(NotFound, match='pods "gateway-0" not found'):
        await client.ask_pod(namespace, "gateway-0", 9090, "/debug/requests/r", headers={})
    with pytest.raises(NotFound, match='serviceaccounts "nobody" not found'):
        await client.token(namespace, "nobody", "somebody")


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Client]:
    """A client of a server that gives one answer to everything."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = Configuration()
    settings.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = Client(settings, user_agent="tests")
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    ("code", "headers", "error", "after"),
    [
        (429, {"Retry-After": "7"}, Unavailable, 7.0),
        (503, {}, Unavailable, None),
        (500, {}, Unavailable, None),
        (401, {}, Unavailable, None),
        (403, {}, Forbidden, None),
        (410, {}, Expired, None),
        (422, {}, Invalid, None),
    ],
)
async def test_an_error_says_what_a_caller_can_do(
    code: int, headers: dict[str, str], error: type[HeadgateError], after: float | None
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        status = {"kind": "Status", "message": "told you", "code": code}
        return web.json_response(status, status=code, headers=headers)

    async with answering(answer) as client:
        with pytest.raises(error, match="told you") as caught:
            await client.get(PODS, "chat", "llama-0")
    assert error is caught.type
    assert after == getattr(caught.value, "after", None)


async def test_a_proxys_page_becomes_the_message() -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>Bad Gateway</html>")

    async with answering(answer) as client:
        with pytest.raises(Unavailable, match="<html>Bad Gateway</html>"):
            await client.get(PODS, "chat", "llama-0")


@pytest.mark.parametrize("text", ["", '{"kind": "Po', "[]"])
async def test_an_answer_cut_short_is_no_answer(text: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(text.encode())
        assert request.transport is not None
        request.transport.close()
        return response

    async with answering(answer) as client:
        with pytest.raises(Unavailable, match="no answer from the API server"):
            await client.get(PODS, "chat", "llama-0")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    settings = Configuration()
    settings.host = "http://127.0.0.1:1"
    client = Client(settings, user_agent="tests")
    with pytest.raises(Unavailable, match="no answer from the API server"):
        await client.get(PODS, "chat", "llama-0")
    await client.close()


async def test_the_query_of_a_write_names_its_manager_and_has_nothing_parsed_twice() -> None:
    heard: list[Any] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        heard.append((request.path, dict(request.query), request.headers["Content-Type"]))
        return web.json_response({"metadata": {}})

    async with answering(answer) as client:
        manifest = config_map("a", "chat")
        await client.apply(manifest, manager="headgate", force=False)
        await client.apply_status(manifest, manager="headgate-status")

    path = "/api/v1/namespaces/chat/configmaps/a"
    kind, once = "application/apply-patch+yaml", {"fieldValidation": "Ignore"}
    assert [
        (path, {"fieldManager": "headgate"} | once, kind),
        (f"{path}/status", {"fieldManager": "headgate-status", "force": "true"} | once, kind),
    ] == heard


@apiserver
async def test_a_client_finds_its_configuration_in_the_environment(
    control_plane: LightCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    client = await Client.connect(user_agent="tests")
    assert "default" == (await client.get(NAMESPACES, None, "default"))["metadata"]["name"]
    assert isinstance((await client.list(EVENTS))[0], list)
    await client.close()
