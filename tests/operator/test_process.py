"""The whole process against a real API server; only decisions, gateways and probes are fakes."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from headgate_api.errors import HeadgateError
from headgate_api.labels import GATEWAY, MODEL, MODEL_SERVER, MODEL_UID, PART
from headgate_api.snapshot import (
    POINTER,
    POINTER_KEY,
    SHARD_KEY,
    Entry,
    GatewayReport,
    ModelBody,
    Pointer,
)
from headgate_cluster.light import LightCluster
from headgate_controllers.contract import Key, Plan
from headgate_kube.client import Client, Object
from headgate_kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    MODEL_DEPLOYMENTS,
    PODS,
    SECRETS,
    TENANT_QUOTAS,
)
from headgate_operator import gateways as gateways_module, process as process_module
from headgate_operator.lease import LeaseLost
from headgate_operator.pointer import StaleLeader
from headgate_operator.publisher import Publisher
from headgate_policy.snapshot import decode_pointer, decode_shard

from .conftest import ON_ASYNCIO, Running, Start
from .fakes import MODELS, Seen, deployment, entry, model, plan_model, secret, tenant
from .waiting import seen

pytestmark = pytest.mark.apiserver
BODY = ModelBody(public_name="late")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return ON_ASYNCIO


def condition(type_: str, status: str) -> Callable[[Object], bool]:
    def holds(item: Object) -> bool:
        found = item.get("status", {}).get("conditions", ())
        return any((c["type"], c["status"]) == (type_, status) for c in found)

    return holds


def of_generation(item: Object) -> bool:
    """The status speaks of the object as it is now."""
    observed: Any = item.get("status", {}).get("observedGeneration")
    return bool(observed == item["metadata"]["generation"])


def pointer_of(item: Object) -> Pointer:
    return decode_pointer(item["data"][POINTER_KEY])


async def in_force(client: Client, namespace: str) -> list[str]:
    """Bodies of all entries that a gateway finds now."""
    pointer = pointer_of(await client.get(CONFIG_MAPS, namespace, POINTER))
    found: list[str] = []
    for digest in filter(None, pointer.shards):
        shard = await client.get(CONFIG_MAPS, namespace, f"{POINTER}-{digest}")
        found += [bytes(e.body).decode() for e in decode_shard(shard["data"][SHARD_KEY]).entries]
    return sorted(found)


async def test_a_model_gets_its_child_its_status_and_its_place_in_the_snapshot(
    operator: Start, client: Client, namespace: str
) -> None:
    await operator()
    await seen(client, CONFIG_MAPS, namespace, POINTER)
    assert [] == await in_force(client, namespace), "a fresh install has an empty one"

    await client.apply(model("llama", namespace, replicas=2), manager="tests")

    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", of_generation)
    child = await client.get(DEPLOYMENTS, namespace, "llama")
    assert 2 == child["spec"]["replicas"]
    await seen(client, CONFIG_MAPS, namespace, POINTER, lambda p: any(pointer_of(p).shards))
    assert ['{"public_name":"llama"}'] == await in_force(client, namespace)


async def test_a_change_a_scale_and_a_hand_edit_all_end_as_the_spec_says(
    operator: Start, client: Client, namespace: str
) -> None:
    await operator()
    await client.apply(model("llama", namespace, replicas=1), manager="tests")
    await seen(client, DEPLOYMENTS, namespace, "llama")

    await client.merge(MODEL_DEPLOYMENTS, namespace, "llama", {"spec": {"replicas": 3}})
    await seen(client, DEPLOYMENTS, namespace, "llama", lambda d: d["spec"]["replicas"] == 3)
    edited = await client.merge(DEPLOYMENTS, namespace, "llama", {"spec": {"replicas": 7}})
    generation = edited["metadata"]["generation"]

    healed = await seen(
        client, DEPLOYMENTS, namespace, "llama", lambda d: d["metadata"]["generation"] > generation
    )
    assert 3 == healed["spec"]["replicas"]

    await client.delete(DEPLOYMENTS, namespace, "llama")
    again = await seen(client, DEPLOYMENTS, namespace, "llama")
    assert 3 == again["spec"]["replicas"]


async def test_a_child_whose_name_is_taken_is_refused_in_an_event(
    operator: Start, client: Client, namespace: str
) -> None:
    foreign = deployment(
        {"metadata": {"name": "llama", "namespace": namespace, "uid": "x"}}
        | {"apiVersion": "v1", "kind": "ConfigMap", "spec": {"replicas": 5}}
    )
    del foreign["metadata"]["ownerReferences"], foreign["metadata"]["labels"]
    await client.apply(foreign, manager="somebody")
    await operator()
    await client.apply(model("llama", namespace, replicas=1), manager="tests")

    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", of_generation)

    async def refusal() -> Object:
        found, _ = await client.list(EVENTS, namespace, fields="reason=WriteRefused")
        return found[0]

    event = await eventually(refusal)
    assert "exists and belongs to something else" in event["message"]
    found = await client.get(DEPLOYMENTS, namespace, "llama")
    assert 5 == found["spec"]["replicas"]


async def eventually(ask: Callable[[], Any]) -> Any:
    """For what no watch tells: ask until there is an answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await ask()
            except (IndexError, HeadgateError):
                await asyncio.sleep(0.05)


async def test_a_secret_that_changes_or_goes_acts_at_once(
    operator: Start, client: Client, namespace: str
) -> None:
    process = await operator()
    await client.apply(tenant("acme", namespace), manager="tests")
    await seen(client, TENANT_QUOTAS, namespace, "acme", condition("ResolvedRefs", "False"))

    await client.apply(secret("acme", namespace, first="x"), manager="tests")
    await seen(client, TENANT_QUOTAS, namespace, "acme", condition("ResolvedRefs", "True"))
    held = process.store.get(Key("Secret", namespace, "acme"))
    assert held is not None
    assert {"apiVersion", "kind", "metadata"} == set(held), "no Secret's content is kept"

    await client.delete(SECRETS, namespace, "acme")
    await seen(client, TENANT_QUOTAS, namespace, "acme", condition("ResolvedRefs", "False"))
    key = Key("TenantQuota", namespace, "acme")
    assert process.publisher.accepted(key) is None


async def test_nothing_is_written_at_rest(operator: Start, client: Client, namespace: str) -> None:
    names = {f"m{number}" for number in range(10)}
    looked_at: set[str] = set()
    everything = asyncio.Event()

    def plan(seen: Seen, now: datetime) -> Plan:
        looked_at.add(seen.manifest["metadata"]["name"])
        if looked_at == names:
            everything.set()
        return plan_model(seen, now)

    process = await operator((replace(MODELS, plan=plan),))
    for name in names:
        await client.apply(model(name, namespace), manager="tests")
    for name in names:
        await seen(client, MODEL_DEPLOYMENTS, namespace, name, of_generation)
        await published(process, Key("ModelDeployment", namespace, name))
    before = process.client.writes
    looked_at.clear()
    everything.clear()

    await process.relist.all()
    process.feed.start()  # one more pass over everything
    await everything.wait()

    assert before == process.client.writes
    assert before["PATCH deployments"] == len(names)


async def published(process: Running, key: Key) -> None:
    """Wait until a pointer with the object is written."""
    written = asyncio.Event()
    told = process.publisher.published

    def tell(news: Iterable[Entry]) -> None:
        told(news)
        written.set()

    process.publisher.published = tell
    while process.publisher.since(key) in (None, (0, 0)):
        written.clear()
        await written.wait()
    process.publisher.published = told


async def test_a_delete_that_no_watch_told_is_found_by_the_next_list(
    operator: Start, client: Client, namespace: str
) -> None:
    process = await operator()
    await client.apply(model("llama", namespace), manager="tests")
    found = await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", of_generation)
    ghost = {**found, "metadata": {**found["metadata"], "name": "ghost", "uid": "ghost"}}
    process.feed.put(ghost)

    await process.relist.all()

    assert process.store.get(Key("ModelDeployment", namespace, "ghost")) is None
    assert process.store.get(Key("ModelDeployment", namespace, "llama")) is not None


async def test_a_deleted_object_leaves_the_snapshot(
    operator: Start, client: Client, namespace: str
) -> None:
    await operator()
    await client.apply(model("llama", namespace), manager="tests")
    await seen(client, CONFIG_MAPS, namespace, POINTER, lambda p: any(pointer_of(p).shards))
    await client.delete(MODEL_DEPLOYMENTS, namespace, "llama")
    await seen(client, CONFIG_MAPS, namespace, POINTER, lambda p: not any(pointer_of(p).shards))


async def test_a_pointer_edited_into_garbage_is_repaired_at_once(
    operator: Start, client: Client, namespace: str
) -> None:
    await operator()
    await client.apply(model("llama", namespace), manager="tests")
    await seen(client, CONFIG_MAPS, namespace, POINTER, lambda p: any(pointer_of(p).shards))
    garbage = {"data": {POINTER_KEY: "{"}}
    await client.merge(CONFIG_MAPS, namespace, POINTER, garbage)
    await seen(client, CONFIG_MAPS, namespace, POINTER, lambda p: p["data"] != garbage["data"])
    assert ['{"public_name":"llama"}'] == await in_force(client, namespace)


async def test_a_ready_pod_is_probed_once(operator: Start, client: Client, namespace: str) -> None:
    process = await operator()
    owner = await client.apply(model("llama", namespace), manager="tests")
    labels = {PART: MODEL_SERVER, MODEL: "llama", MODEL_UID: owner["metadata"]["uid"]}
    made = await pod(client, namespace, "llama-0", labels)

    await eventually(lambda: answered(process, made["metadata"]["uid"]))

    assert ["llama-0"] == process.probe.asked


async def answered(process: Running, uid: str) -> None:
    if process.prober.answered(uid) != "":
        raise IndexError


async def pod(client: Client, namespace: str, name: str, labels: dict[str, str]) -> Object:
    """A pod that some kubelet calls ready."""
    spec = {"containers": [{"name": "server", "image": "none"}]}
    meta = {"name": name, "labels": labels}
    await client.create(PODS, namespace, {"metadata": meta, "spec": spec})
    status = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return await client.merge(PODS, namespace, name, {"status": status}, subresource="status")


async def test_programmed_waits_for_every_ready_gateway(
    operator: Start, client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways_module, "OFTEN", 0.05)
    process = await operator()
    await pod(client, namespace, "gateway-0", {PART: GATEWAY})
    await client.apply(model("llama", namespace), manager="tests")
    behind = condition("Programmed", "False")
    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", behind)

    report = GatewayReport(schema=1, epoch=99, sequence=0)
    process.ask.reports["gateway-0"] = report

    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", condition("Programmed", "True"))


async def test_health_and_metrics_tell_how_it_stands(
    operator: Start, client: Client, namespace: str
) -> None:
    process = await operator()
    await seen(client, CONFIG_MAPS, namespace, POINTER)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{process.port}") as http:
        for path in ("/healthz", "/readyz"):
            async with http.get(path) as answer:
                assert (200, "ok\n") == (answer.status, await answer.text())
        async with http.get("/metrics") as answer:
            text = await answer.text()
    assert "headgate_leader 1.0" in text
    assert 'headgate_reconcile_total{controller="ModelDeployment",result="bug"}' in text


async def test_an_object_made_while_nobody_ran_is_found(
    operator: Start, client: Client, namespace: str
) -> None:
    await client.apply(model("llama", namespace), manager="tests")
    await operator()
    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", of_generation)


async def test_the_standby_takes_over_when_the_leader_stops(
    operator: Start, client: Client, namespace: str
) -> None:
    leader = await operator()
    await seen(client, CONFIG_MAPS, namespace, POINTER)
    standby = await operator()
    leader.stop.set()
    await leader.task

    await client.apply(model("llama", namespace), manager="tests")
    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", of_generation)

    assert (False, True) == (leader.elector.leads, standby.elector.leads)
    assert leader.elector.epoch < standby.elector.epoch


async def test_a_frozen_leader_is_replaced_and_its_late_write_refused(
    operator: Start, client: Client, namespace: str
) -> None:
    """Frozen means: its publisher still believes, and nothing renews its lease."""
    frozen = await operator()
    first = await seen(client, CONFIG_MAPS, namespace, POINTER)
    late = Publisher(client, namespace, leads=lambda: True)
    await late.load()
    frozen.stop.set()
    await frozen.task
    lease = await client.get(LEASES, namespace, "headgate-operator")
    held = {"holderIdentity": "frozen", "leaseDurationSeconds": 1}
    await client.replace(LEASES, {**lease, "spec": lease["spec"] | held})

    successor = await operator()
    await seen(
        client,
        CONFIG_MAPS,
        namespace,
        POINTER,
        lambda p: pointer_of(p).epoch > pointer_of(first).epoch,
    )
    made = await client.apply(model("late", namespace), manager="tests")
    late.accept(
        Key("ModelDeployment", namespace, "late"), entry(made, ModelBody(public_name="late"))
    )

    with pytest.raises(StaleLeader):
        await late.run(pointer_of(first).epoch)
    pointer = pointer_of(await client.get(CONFIG_MAPS, namespace, POINTER))
    assert successor.elector.epoch == pointer.epoch


async def test_a_leader_cut_off_from_the_api_server_ends_and_a_new_one_goes_on(
    control_plane: LightCluster, operator: Start, client: Client, namespace: str
) -> None:
    process = await operator()
    await seen(client, CONFIG_MAPS, namespace, POINTER)
    before = sum(process.client.asked.values())
    control_plane.pause()
    try:
        with pytest.raises(ExceptionGroup) as caught:
            await process.task
    finally:
        control_plane.resume()

    assert caught.group_contains(LeaseLost)
    assert sum(process.client.asked.values()) - before < 50, "nothing loops hot"
    await client.apply(model("llama", namespace), manager="tests")
    await operator()
    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", of_generation)


async def test_a_restart_of_the_api_server_costs_nothing_but_time(
    control_plane: LightCluster, operator: Start, client: Client, namespace: str
) -> None:
    process = await operator(lease_duration=90.0, renew_deadline=60.0)
    await client.apply(model("before", namespace), manager="tests")
    await seen(client, MODEL_DEPLOYMENTS, namespace, "before", of_generation)
    before = sum(process.client.asked.values())

    control_plane.restart_apiserver()
    await client.apply(model("after", namespace), manager="tests")
    await seen(client, MODEL_DEPLOYMENTS, namespace, "after", of_generation)

    assert not process.task.done()
    assert sum(process.client.asked.values()) - before < 100, "nothing loops hot"


async def test_a_missing_crd_ends_the_process_with_a_sentence(
    operator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:

    absent = replace(MODEL_DEPLOYMENTS, plural="nosuchthings")
    monkeypatch.setattr(process_module, "WATCHED", {absent: ""})
    process = await operator((MODELS,))
    with pytest.raises(ExceptionGroup) as caught:
        await process.task
    assert caught.group_contains(HeadgateError, match="nosuchthings.headgate.dev/v1alpha1")


async def test_a_process_that_stops_amid_its_first_requests_leaves_none_behind(
    operator: Start, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    process = await operator()
    await eventually(lambda: began(process))
    process.stop.set()
    await process.task

    assert set() == asyncio.all_tasks() - before
    assert [] == [record for record in caplog.records if record.name.startswith("kopf")]


async def began(process: Running) -> None:
    if not process.client.asked:
        raise IndexError
