"""The whole process against a real API server: what it follows, when it is ready, whom it tells."""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import trustme

from headgate_api.errors import Conflict
from headgate_api.labels import GATEWAY_AUDIENCE
from headgate_api.snapshot import POINTER, POINTER_KEY, SHARD_KEY, Entry, Pointer
from headgate_cluster.light import LightCluster
from headgate_cluster.processes import free_ports
from headgate_gateway.access import KubernetesAccess
from headgate_gateway.follow import Cluster
from headgate_gateway.main import Process
from headgate_gateway.settings import Settings
from headgate_kube.client import Client
from headgate_kube.resources import CONFIG_MAPS, PODS
from headgate_policy.snapshot import compile_shards, encode_pointer

from .conftest import KEY, MODEL, NAME, TENANT, pod, until
from .upstream import Upstream, saying

pytestmark = pytest.mark.apiserver


async def publish(
    client: Client, namespace: str, *entries: Entry, epoch: int = 1, sequence: int = 1
) -> None:
    """Write shards and pointer as the operator does."""
    shards = compile_shards(entries)
    for digest, content in shards.contents.items():
        body = {
            "metadata": {"name": f"{POINTER}-{digest}"},
            "immutable": True,
            "data": {SHARD_KEY: content.decode()},
        }
        with contextlib.suppress(Conflict):  # the same content from before
            await client.create(CONFIG_MAPS, namespace, body)
    pointer = Pointer(schema=1, epoch=epoch, sequence=sequence, shards=shards.digests)
    await point(client, namespace, encode_pointer(pointer).decode())


async def point(client: Client, namespace: str, text: str) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": POINTER, "namespace": namespace},
        "data": {POINTER_KEY: text},
    }
    await client.apply(manifest, manager="tests")


Run = Callable[..., Any]


@pytest.fixture
def run(client: Client, namespace: str, tmp_path: Path) -> Run:
    """`async with run(**settings) as process`: a gateway until the block ends."""

    @contextlib.asynccontextmanager
    async def running(**more: Any) -> AsyncIterator[Process]:
        port, admin_port = free_ports(2)
        settings = Settings(
            namespace=namespace,
            region="here",
            port=port,
            admin_port=admin_port,
            snapshot_dir=tmp_path / "snapshot",
            **more,
        )
        process = Process(
            settings,
            lambda gateway: Cluster(client, settings, gateway.snapshots, gateway.pods),
            KubernetesAccess(client, time.monotonic),
            accept_seconds=0.0,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(process.run(stop))
        await until(lambda: task.done() or process.admin.port > 0)
        try:
            yield process
        finally:
            stop.set()
            await task

    return running


def cluster_of(process: Process) -> Cluster:
    assert isinstance(process.source, Cluster)
    return process.source


async def get(process: Process, path: str, token: str = "") -> tuple[int, str]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{process.admin.port}{path}"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


async def ready(process: Process) -> None:
    while (await get(process, "/readyz"))[0] != 200:  # noqa: ASYNC110 - nobody would tell us
        await asyncio.sleep(0.02)


async def test_it_is_ready_when_it_runs_the_current_snapshot(
    run: Run, client: Client, namespace: str
) -> None:
    async with run() as process:
        status, why = await get(process, "/readyz")
        assert (503, True) == (status, "snapshot" in why)
        await publish(client, namespace, MODEL, TENANT)
        await ready(process)

        assert 1 == len(process.gateway.snapshots.tables.keys)


async def test_it_follows_the_pointer_and_refuses_an_older_one(
    run: Run, client: Client, namespace: str
) -> None:
    await publish(client, namespace, MODEL, epoch=1, sequence=1)
    async with run() as process:
        snapshots = process.gateway.snapshots
        await ready(process)
        await publish(client, namespace, TENANT, epoch=2, sequence=7)
        await until_slow(lambda: snapshots.report.version == (2, 7))
        assert 1 == len(snapshots.tables.keys)
        assert {} == snapshots.tables.space("chat").models

        await publish(client, namespace, epoch=1, sequence=99)  # a leader that was deposed
        await publish(client, namespace, epoch=2, sequence=8)
        await until_slow(lambda: snapshots.report.version == (2, 8))


async def test_a_pointer_that_cannot_be_read_is_told_and_the_last_good_one_serves(
    run: Run, client: Client, namespace: str
) -> None:
    await publish(client, namespace, MODEL, TENANT)
    async with run() as process:
        await ready(process)
        await point(client, namespace, '{"schema": 2, "anything": "else"}')
        await until_slow(lambda: "schema 2" in cluster_of(process).snapshot.problem)
        assert 1 == len(process.gateway.snapshots.tables.keys)
        assert 200 == (await get(process, "/readyz"))[0]

        await publish(client, namespace, sequence=2)
        await until_slow(lambda: process.gateway.snapshots.report.sequence == 2)
        await ready(process)


async def test_a_shard_that_comes_late_is_waited_for(
    run: Run, client: Client, namespace: str
) -> None:
    shards = compile_shards([TENANT])
    pointer = Pointer(schema=1, epoch=1, sequence=1, shards=shards.digests)
    await point(client, namespace, encode_pointer(pointer).decode())
    async with run() as process:
        await until_slow(lambda: bool(cluster_of(process).snapshot.problem))
        assert 503 == (await get(process, "/readyz"))[0]
        await publish(client, namespace, TENANT)
        await ready(process)


async def test_it_starts_with_the_snapshot_on_its_volume(
    run: Run, client: Client, namespace: str
) -> None:
    await publish(client, namespace, MODEL, TENANT, epoch=5)
    async with run() as process:
        await ready(process)
    await client.delete(CONFIG_MAPS, namespace, POINTER)
    async with run() as process:
        assert 1 == len(process.gateway.snapshots.tables.keys)
        assert 503 == (await get(process, "/readyz"))[0]  # nobody has said that it is current
        await publish(client, namespace, MODEL, epoch=0)  # a new installation
        await ready(process)
        assert 0 == len(process.gateway.snapshots.tables.keys)


async def test_a_start_without_the_api_server_serves_nobody_by_an_old_snapshot(
    run: Run, client: Client, namespace: str, control_plane: LightCluster, tmp_path: Path
) -> None:
    """A key in it may have been revoked while the gateway was down."""
    entries = [msgspec.structs.replace(entry, namespace=namespace) for entry in (MODEL, TENANT)]
    await publish(client, namespace, *entries)
    async with run() as process:
        await ready(process)
    assert (tmp_path / "snapshot" / "pointer.json").exists()
    fetched: list[str] = []
    get_one = client.get

    async def noted(resource: Any, namespace: Any, name: str) -> Any:
        fetched.append(name)
        return await get_one(resource, namespace, name)

    client.get = noted  # type: ignore[method-assign]
    control_plane.pause()
    try:
        async with run() as process:
            assert 1 == len(process.gateway.snapshots.tables.keys)
            assert 503 == (await get(process, "/readyz"))[0]
            assert (503, "policy_not_loaded") == await refusal(process)
            control_plane.resume()
            await ready(process)
            assert (503, "model_not_ready") == await refusal(process), "but no pod is there"
    finally:
        control_plane.resume()
    assert [] == fetched, "the volume had every shard"


async def refusal(process: Process) -> tuple[int, str]:
    url = f"http://127.0.0.1:{process.gateway.edge.port}/v1/chat/completions"
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=body, headers=headers) as answer,
    ):
        return answer.status, (await answer.json())["error"]["code"]


async def test_pods_are_found_and_left_as_the_api_server_says(
    run: Run, client: Client, namespace: str
) -> None:
    entries = [msgspec.structs.replace(entry, namespace=namespace) for entry in (MODEL, TENANT)]
    await publish(client, namespace, *entries)
    upstream = Upstream(saying("Hi"))
    async with run() as process:
        process.gateway.pods._port = await upstream.start("127.0.0.1")
        await ready(process)
        manifest = pod("llama-0")
        status = manifest.pop("status")
        kept = ("name", "labels", "ownerReferences")
        manifest["metadata"] = {k: manifest["metadata"][k] for k in kept}
        manifest["spec"] = {"containers": [{"name": "server", "image": "none"}]}
        await client.create(PODS, namespace, manifest)
        await client.merge(PODS, namespace, "llama-0", {"status": status}, subresource="status")
        await until_slow(lambda: bool(process.gateway.pods.counts()))
        assert (200, "Hi") == await ask(process)

        await client.delete(PODS, namespace, "llama-0")
        await until_slow(lambda: not process.gateway.pods.counts())
        assert 503 == (await ask(process))[0]
    await upstream.stop()


async def ask(process: Process) -> tuple[int, str]:
    url = f"http://127.0.0.1:{process.gateway.edge.port}/v1/chat/completions"
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=body, headers=headers) as answer,
    ):
        told = await answer.json()
        return answer.status, told["choices"][0]["message"]["content"] if "choices" in told else ""


async def test_reports_are_for_service_accounts_with_the_right(
    run: Run, client: Client, namespace: str, kubectl: Callable[..., str]
) -> None:
    await publish(client, namespace)
    for account in ("operator", "stranger"):
        kubectl("create", "serviceaccount", account, "-n", namespace)
    role = f"{namespace}-reports"
    kubectl("create", "clusterrole", role, "--verb=get", "--non-resource-url=/snapshot")
    kubectl(
        "create",
        "clusterrolebinding",
        role,
        f"--clusterrole={role}",
        f"--serviceaccount={namespace}:operator",
    )

    def token(account: str, *more: str) -> str:
        return kubectl("create", "token", account, "-n", namespace, *more).strip()

    ours = f"--audience={GATEWAY_AUDIENCE}"
    may, may_not = token("operator", ours), token("stranger", ours)
    async with run() as process:
        await ready(process)
        status, body = await get(process, "/snapshot", may)
        assert (200, 1) == (status, json.loads(body)["sequence"])
        assert 403 == (await get(process, "/feedback", may))[0]
        assert 403 == (await get(process, "/snapshot", may_not))[0]
        assert 401 == (await get(process, "/snapshot", "made up"))[0]
        status, why = await get(process, "/snapshot", token("operator"))  # for the API server
        assert (401, True) == (status, GATEWAY_AUDIENCE in why)


async def until_slow(condition: Callable[[], bool]) -> None:
    """Wait for something that the API server brings about."""
    while not condition():  # noqa: ASYNC110 - nobody would tell us
        await asyncio.sleep(0.02)


async def test_it_speaks_tls_with_the_certificate_in_its_folder(
    run: Run, client: Client, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate_gateway.edge.tls.PAUSE", 0.02)
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    (tmp_path / "tls.crt").write_bytes(leaf.cert_chain_pems[0].bytes())
    (tmp_path / "tls.key").write_bytes(leaf.private_key_pem.bytes())
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    await publish(client, namespace, MODEL, TENANT)
    async with run(tls_dir=tmp_path) as process, aiohttp.ClientSession() as http:
        await ready(process)
        url = f"https://localhost:{process.gateway.edge.port}/v1/models"
        headers = {"authorization": f"Bearer {KEY}"}
        async with http.get(url, headers=headers, ssl=trusting) as answer:
            assert 200 == answer.status
        assert "headgate_gateway_certificate_broken 0.0" in (await get(process, "/metrics"))[1]
        (tmp_path / "tls.crt").write_bytes(b"")
        broken = "headgate_gateway_certificate_broken 1.0"
        while broken not in (await get(process, "/metrics"))[1]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        async with http.get(url, headers=headers, ssl=trusting) as answer:
            assert 200 == answer.status
