"""A gateway in this process, in front of scripted model servers on loopback."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest
from msgspec import structs

from headgate_api.labels import COHORT, MODEL_SERVER, MODEL_UID, PART
from headgate_api.snapshot import (
    ApiKey,
    Body,
    Cohort,
    Entry,
    Identity,
    Kind,
    ModelBody,
    Pointer,
    RouteBody,
    RouteRule,
    Target,
    TenantBody,
)
from headgate_gateway.calls.ask import Patience
from headgate_gateway.edge.limits import Limits
from headgate_gateway.gateway import Gateway
from headgate_gateway.idempotency.store import Store
from headgate_gateway.routing.pods import Pods
from headgate_policy.snapshot import compile_shards, make_entry

from .upstream import Script, Upstream

collect_ignore = ["models"]  # what Triton serves: it runs there
KEY = "hg_test-key-of-tenant-acme-0123456789"
COHORT_NAME = "llama-bf16-0a1b2c3d"


def entry(kind: Kind, name: str, body: Body, *, generation: int = 1, **more: Any) -> Entry:
    identity = Identity(kind=kind, namespace="chat", name=name)
    return make_entry(identity, uid=f"uid-{name}", generation=generation, body=body, **more)


def api_key(key: str, **more: Any) -> ApiKey:
    return ApiKey(sha256=sha256(key.encode()).hexdigest(), name="first", **more)


def cohort(name: str = COHORT_NAME, runtime: Any = "triton-llmapi") -> Cohort:
    served = "tensorrt_llm" if runtime == "triton-llmapi" else "ensemble"
    return Cohort(
        name=name, variant="bf16", revision="0a1b2c3d", runtime=runtime, served_model=served
    )


def guessing(name: str, runtime: Any = "triton-llmapi") -> Cohort:
    """A cohort whose pods guess ahead."""
    return structs.replace(cohort(name, runtime), variant="bf16-eagle3", speculative=True)


NAME = "llama-3-1-8b"


def model(*cohorts: Cohort, name: str = "llama", **more: Any) -> Entry:
    return entry(
        "ModelDeployment", name, ModelBody(**{"public_name": NAME, "cohorts": cohorts} | more)
    )


MODEL = model(cohort())
ENSEMBLE = model(cohort(runtime="triton-python"))
TENANT = entry("TenantQuota", "acme", TenantBody(tenant="acme", keys=(api_key(KEY),)))


ALL = RouteRule(name="all", targets=(Target(model="llama"),))
"""A route to the one model."""


def policy(**rules: Any) -> tuple[Entry, ...]:
    """A model behind a RoutingPolicy with these rules, and its tenant."""
    body = RouteBody(models=(NAME,), routes=(ALL,), **rules)
    return MODEL, TENANT, entry("RoutingPolicy", "front", body)


def pod(name: str, ip: str = "127.0.0.1", *, uid: str = "uid-llama", **meta: Any) -> dict[str, Any]:
    labels = {PART: MODEL_SERVER, MODEL_UID: uid, COHORT: COHORT_NAME, **meta.pop("labels", {})}
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"{labels[COHORT]}-5d8f",
        "uid": "uid-replicas",
        "controller": True,
    }
    return {
        "metadata": {
            "namespace": "chat",
            "name": name,
            "uid": f"pod-{name}",
            "labels": labels,
            "ownerReferences": [owner],
        }
        | meta,
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    }


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else run until it is so; a run that hangs is cut from outside."""
    while not condition():  # noqa: ASYNC110 - nobody would tell us
        await asyncio.sleep(0)


@dataclass(slots=True)
class Running:
    """A gateway, and what a test may do to it."""

    gateway: Gateway
    upstreams: list[Upstream] = field(default_factory=list)
    _sequence: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.edge.port}/v1"

    async def take(self, *entries: Entry) -> None:
        """Bring a snapshot with these entries into force."""
        shards = compile_shards(entries)
        pointer = Pointer(schema=1, epoch=1, sequence=next(self._sequence), shards=shards.digests)
        await self.gateway.snapshots.swap(pointer, shards.contents)


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(script, ...)`: one pod for each script, a snapshot, and a gateway."""
    started: list[Running] = []

    async def begin(
        *scripts: Script,
        entries: tuple[Entry, ...] = (MODEL, TENANT),
        limits: Limits | None = None,
        patience: Patience | None = None,
        most: int = 100,
        keys: Store | None = None,
        answer_bytes: int = 1024 * 1024,
    ) -> Running:
        port = 0
        upstreams = []
        for number, script in enumerate(scripts, 1):
            upstream = Upstream(script)
            port = await upstream.start(f"127.0.0.{number}", port)
            upstreams.append(upstream)
        pods = Pods(port)
        gateway = Gateway(
            region="here",
            pods=pods,
            limits=limits or Limits(),
            patience=patience or Patience(),
            most=most,
            default_max_tokens=64,
            keys=keys,
            answer_bytes=answer_bytes,
        )
        for number in range(1, len(scripts) + 1):
            pods.put(pod(f"pod-{number}", f"127.0.0.{number}"))
        running = Running(gateway, upstreams)
        started.append(running)
        await gateway.edge.listen("127.0.0.1", 0)
        if entries:
            await running.take(*entries)
        return running

    yield begin
    for running in started:
        running.gateway.edge.close_listener()
        running.gateway.edge.abort()
        await running.gateway.edge.emptied()
        await running.gateway.idempotency.close()
        for upstream in running.upstreams:
            await upstream.stop()
