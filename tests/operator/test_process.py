"""The whole process against a real API server; only the decisions, gateways and pods are fakes."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headgate_kube.client import Client
from headgate_kube.resources import DEPLOYMENTS, MODEL_DEPLOYMENTS

from .conftest import Running
from .fakes import model
from .waiting import until

pytestmark = pytest.mark.apiserver
Start = Callable[..., Awaitable[Running]]


async def test_a_model_gets_its_deployment_and_its_status(
    operator: Start, client: Client, namespace: str
) -> None:
    await operator()
    await client.apply(model("llama", namespace, replicas=2), manager="tests")

    async def reported() -> Any:
        found = await client.get(MODEL_DEPLOYMENTS, namespace, "llama")
        return found.get("status")

    status = await until(reported)
    child = await client.get(DEPLOYMENTS, namespace, "llama")
    assert 2 == child["spec"]["replicas"]
    assert 1 == status["observedGeneration"]
