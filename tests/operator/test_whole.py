"""The operator with its real decisions against a real API server.

There is no kubelet and no controller-manager: the test makes the pods that a Deployment calls for.
"""

from collections.abc import Callable
from typing import Any

import pytest

from headgate_api.labels import COHORT, GATEWAY, PART
from headgate_api.snapshot import POINTER, POINTER_KEY, GatewayReport
from headgate_controllers import ALL
from headgate_controllers.contract import Key
from headgate_kube.client import Client, Object
from headgate_kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    MODEL_DEPLOYMENTS,
    NETWORK_POLICIES,
    PDBS,
    PODS,
    SECRETS,
    SERVICES,
    TENANT_QUOTAS,
)
from headgate_operator import gateways as gateways_module
from headgate_policy.snapshot import decode_body, decode_pointer

from .conftest import ON_ASYNCIO, Start
from .fakes import model, secret, tenant
from .waiting import seen, vanished

pytestmark = pytest.mark.apiserver
KEY = "hg_" + 40 * "k"
NEWEST = GatewayReport(schema=1, epoch=1_000_000, sequence=0)
Condition = Callable[[Object], bool]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return ON_ASYNCIO


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways_module, "OFTEN", 0.05)


def says(type_: str, status: str, reason: str = "") -> Condition:
    """A condition of the newest generation."""

    def holds(item: Object) -> bool:
        generation = item["metadata"]["generation"]
        return any(
            (c["type"], c["status"], c["observedGeneration"]) == (type_, status, generation)
            and reason in ("", c["reason"])
            for c in item.get("status", {}).get("conditions", ())
        )

    return holds


async def run_pod(client: Client, namespace: str, name: str, template: Any) -> Object:
    """Be the kubelet of one pod that is ready at once."""
    body = {"metadata": {"name": name, "labels": template["metadata"]["labels"]}}
    await client.create(PODS, namespace, {**body, "spec": template["spec"]})
    status = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ],
    }
    return await client.merge(PODS, namespace, name, {"status": status}, subresource="status")


async def run_gateway(client: Client, namespace: str) -> None:
    labels = {"metadata": {"labels": {PART: GATEWAY}}}
    spec = {"spec": {"containers": [{"name": "gateway", "image": "none"}]}}
    await run_pod(client, namespace, "gateway-0", labels | spec)


async def cohort_of(client: Client, namespace: str, besides: str = "") -> Object:
    """Wait for the Deployment of a model's new cohort."""
    name = ""
    while not name:
        found, _ = await client.list(DEPLOYMENTS, namespace)
        name = next((d["metadata"]["name"] for d in found if d["metadata"]["name"] != besides), "")
    return await seen(client, DEPLOYMENTS, namespace, name)


async def test_a_model_becomes_ready_once_its_pod_gave_a_token(
    operator: Start, client: Client, namespace: str
) -> None:
    process = await operator(ALL)
    process.ask.reports["gateway-0"] = NEWEST
    await run_gateway(client, namespace)
    await client.apply(model("llama", namespace, replicas=1), manager="tests")

    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", says("Ready", "Unknown"))
    cohort = await cohort_of(client, namespace)
    name = cohort["metadata"]["name"]
    for resource in (SERVICES, PDBS, NETWORK_POLICIES):
        assert "llama" == (await client.get(resource, namespace, "llama"))["metadata"]["name"]
    assert (await client.get(CONFIG_MAPS, namespace, name))["immutable"]

    process.probe.why_not = "the model is broken"
    await run_pod(client, namespace, "llama-0", cohort["spec"]["template"])
    failed = says("Ready", "False", "ProbeFailed")
    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", failed)

    process.probe.why_not = ""
    done = await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", says("Ready", "True"))
    assert (1, 1) == (done["status"]["replicas"], done["status"]["readyReplicas"])
    assert says("Available", "True")(done)
    entry = process.publisher.accepted(Key("ModelDeployment", namespace, "llama"))
    assert entry is not None
    assert [name] == [cohort.name for cohort in decode_body(entry).cohorts]  # type: ignore[union-attr]


async def test_a_new_revision_takes_over_pod_by_pod(
    operator: Start, client: Client, namespace: str
) -> None:
    process = await operator(ALL)
    await client.apply(model("llama", namespace, replicas=1), manager="tests")
    old = await cohort_of(client, namespace)
    old_name = old["metadata"]["name"]
    await run_pod(client, namespace, "old-0", old["spec"]["template"])
    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", says("Ready", "True"))

    variants = [{"name": "only", "source": {"uri": "file:///newer"}}]
    await client.merge(MODEL_DEPLOYMENTS, namespace, "llama", {"spec": {"variants": variants}})
    new = await cohort_of(client, namespace, besides=old_name)
    assert 1 == (await client.get(DEPLOYMENTS, namespace, old_name))["spec"]["replicas"]

    await run_pod(client, namespace, "new-0", new["spec"]["template"])
    await seen(client, DEPLOYMENTS, namespace, old_name, lambda d: d["spec"]["replicas"] == 0)
    await client.delete(PODS, namespace, "old-0")
    await vanished_soon(client, namespace, old_name)
    done = await seen(
        client,
        MODEL_DEPLOYMENTS,
        namespace,
        "llama",
        lambda it: says("Ready", "True")(it) and it["status"]["readyReplicas"] == 1,
    )

    assert says("Progressing", "False", "RolloutComplete")(done)
    assert new["metadata"]["labels"][COHORT] == new["metadata"]["name"]
    assert {"old-0", "new-0"} == set(process.probe.asked)


async def vanished_soon(client: Client, namespace: str, name: str) -> None:
    found, _ = await client.list(DEPLOYMENTS, namespace, fields=f"metadata.name={name}")
    if found:
        await vanished(client, DEPLOYMENTS, namespace, name)


async def test_a_tenants_keys_are_in_force_as_long_as_their_secret_is_there(
    operator: Start, client: Client, namespace: str
) -> None:
    process = await operator(ALL)
    process.ask.reports["gateway-0"] = NEWEST
    await run_gateway(client, namespace)
    await client.apply(tenant("acme", namespace), manager="tests")
    unresolved = says("ResolvedRefs", "False", "SecretNotFound")
    await seen(client, TENANT_QUOTAS, namespace, "acme", unresolved)

    await client.apply(secret("acme", namespace, first=KEY), manager="tests")
    ready = await seen(client, TENANT_QUOTAS, namespace, "acme", says("Ready", "True"))
    assert 1 == ready["status"]["keysActive"]
    shards, _ = await client.list(CONFIG_MAPS, namespace, selector="headgate.dev/snapshot=shard")
    assert shards
    assert not any(KEY in str(shard) for shard in shards), "a key never leaves its Secret"

    await client.delete(SECRETS, namespace, "acme")
    await seen(client, TENANT_QUOTAS, namespace, "acme", unresolved)
    entry = process.publisher.accepted(Key("TenantQuota", namespace, "acme"))
    assert entry is None or not decode_body(entry).keys  # type: ignore[union-attr]


async def test_a_deleted_model_leaves_the_snapshot_at_once(
    operator: Start, client: Client, namespace: str
) -> None:
    await operator(ALL)
    await client.apply(model("llama", namespace), manager="tests")
    await seen(client, CONFIG_MAPS, namespace, POINTER, has_shards)
    await client.delete(MODEL_DEPLOYMENTS, namespace, "llama")
    await seen(client, CONFIG_MAPS, namespace, POINTER, lambda pointer: not has_shards(pointer))


def has_shards(pointer: Object) -> bool:
    return any(decode_pointer(pointer["data"][POINTER_KEY]).shards)
