"""A bad edit under the real decisions: what was accepted last is still carried out."""

from typing import Any

import pytest

from headgate_controllers import ALL
from headgate_kube.client import Client, Object
from headgate_kube.resources import (
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    MODEL_DEPLOYMENTS,
    SERVICES,
    Resource,
)

from .conftest import Start
from .fakes import model
from .waiting import seen

pytestmark = pytest.mark.apiserver
UNKNOWN_GPU = {"name": "only", "source": {"uri": "file:///m"}, "gpu": {"products": ["H1OO"]}}


def accepted(item: Object) -> str:
    """How the newest generation was taken; empty as long as the status is of another one."""
    status: Any = item.get("status", {})
    if status.get("observedGeneration") != item["metadata"]["generation"]:
        return ""
    return next(c["status"] for c in status["conditions"] if c["type"] == "Accepted")


async def restored(client: Client, resource: Resource, namespace: str, name: str) -> Object:
    """Delete an object, and wait for another one of its name."""
    uid = (await client.get(resource, namespace, name))["metadata"]["uid"]
    await client.delete(resource, namespace, name)
    return await seen(client, resource, namespace, name, lambda it: it["metadata"]["uid"] != uid)


async def test_children_are_restored_and_scaled_while_an_edit_is_refused(
    operator: Start, client: Client, namespace: str
) -> None:
    first = await operator(ALL)
    await client.apply(model("llama", namespace), manager="tests")
    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", lambda m: accepted(m) == "True")
    (cohort,), _ = await client.list(DEPLOYMENTS, namespace)
    name, template = cohort["metadata"]["name"], cohort["spec"]["template"]
    edit = {"spec": {"variants": [UNKNOWN_GPU]}}
    await client.merge(MODEL_DEPLOYMENTS, namespace, "llama", edit)
    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", lambda m: accepted(m) == "False")

    await restored(client, SERVICES, namespace, "llama")
    assert template == (await restored(client, DEPLOYMENTS, namespace, name))["spec"]["template"]

    first.stop.set()
    await first.task
    await operator(ALL)  # one that has never seen the good spec
    await restored(client, SERVICES, namespace, "llama")
    assert template == (await restored(client, DEPLOYMENTS, namespace, name))["spec"]["template"]

    await client.merge(
        MODEL_DEPLOYMENTS, namespace, "llama", {"spec": {"replicas": 4}}, subresource="scale"
    )
    await seen(client, DEPLOYMENTS, namespace, name, lambda it: it["spec"]["replicas"] == 4)
    revisions, _ = await client.list(CONTROLLER_REVISIONS, namespace)
    assert [("file:///models", 1)] == [
        (it["data"]["spec"]["variants"][0]["source"]["uri"], it["revision"]) for it in revisions
    ]


async def test_a_revision_that_somebody_deletes_is_written_again(
    operator: Start, client: Client, namespace: str
) -> None:
    await operator(ALL)
    await client.apply(model("llama", namespace), manager="tests")
    await seen(client, MODEL_DEPLOYMENTS, namespace, "llama", lambda m: accepted(m) == "True")
    (revision,), _ = await client.list(CONTROLLER_REVISIONS, namespace)
    again = await restored(client, CONTROLLER_REVISIONS, namespace, revision["metadata"]["name"])
    assert revision["data"] == again["data"]
