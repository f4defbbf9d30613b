"""A gateway in front of the mocks, without an API server, and with an ear (see `bench.gateway`).

Arguments: the data port, the ear's port, the mocks' port. SIGUSR1 swaps snapshots: the first one
brings `TENANTS` tenants, each further one changes a single one of them.
"""

import asyncio
import signal
import sys
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

import uvloop

from bench.gateway import Ear
from headgate_api.labels import COHORT, MODEL_SERVER, MODEL_UID, PART
from headgate_api.snapshot import (
    ApiKey,
    Body,
    Cohort,
    Entry,
    Identity,
    InputRule,
    Kind,
    ModelBody,
    Pointer,
    RouteBody,
    SafetyBody,
    Target,
    TenantBody,
)
from headgate_gateway import main as gateway_main
from headgate_gateway.calls.call import Patience
from headgate_gateway.edge.limits import Limits
from headgate_gateway.gateway import Gateway
from headgate_gateway.routing.pods import Pods
from headgate_policy.snapshot import compile_shards, make_entry

KEY: Final = "hg_the-key-of-the-benchmark-0123456789"
TENANTS: Final = 10_000
RUNTIMES: Final[dict[str, Any]] = {"llmapi": "triton-llmapi", "ensemble": "triton-python"}
MOCKS: Final = {"whole": "127.0.0.2", "fast": "127.0.0.3", "paced": "127.0.0.4"}
RULES: Final = {
    "ignore-instructions": r"(?i)ignore (all|any|the) (previous|prior) instructions",
    "card-number": r"\b(?:\d[ -]?){13,16}\b",
    "private-key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}


def entry(kind: Kind, name: str, body: Body) -> Entry:
    identity = Identity(kind=kind, namespace="bench", name=name)
    return make_entry(identity, uid=f"uid-{name}", generation=1, body=body)


def models() -> Iterator[Entry]:
    for dialect, runtime in RUNTIMES.items():
        for pace in MOCKS:
            name = f"{dialect}-{pace}"
            cohort = Cohort(
                name=f"{name}-bf16-0a1b2c3d",
                variant="bf16",
                revision="0a1b2c3d",
                runtime=runtime,
                served_model="tensorrt_llm" if dialect == "llmapi" else "ensemble",
            )
            yield entry(
                "ModelDeployment", name, ModelBody(public_name=f"{name}-x", cohorts=(cohort,))
            )
            route = RouteBody(models=(name,), targets=(Target(model=name),))
            yield entry("RoutingPolicy", name, route)


def tenant(name: str, key: str, **more: Any) -> Entry:
    digest = sha256(key.encode()).hexdigest()
    body = TenantBody(tenant=name, keys=(ApiKey(sha256=digest, name="key"),), **more)
    return entry("TenantQuota", name, body)


def rules() -> Entry:
    found = tuple(InputRule(name=name, pattern=pattern) for name, pattern in RULES.items())
    return entry("SafetyPolicy", "rules", SafetyBody(rules=found))


def pod(name: str, address: str) -> dict[str, Any]:
    cohort = f"{name}-bf16-0a1b2c3d"
    replica_set = {"kind": "ReplicaSet", "name": f"{cohort}-5d8f", "controller": True}
    return {
        "metadata": {
            "namespace": "bench",
            "name": name,
            "uid": f"pod-{name}",
            "labels": {PART: MODEL_SERVER, MODEL_UID: f"uid-{name}", COHORT: cohort},
            "ownerReferences": [replica_set],
        },
        "status": {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
    }


class Turns:
    """One snapshot after the other: few tenants, then many, then again and again one changed."""

    def __init__(self, gateway: Gateway) -> None:
        self._snapshots = gateway.snapshots
        few = [*models(), rules(), tenant("bench", KEY, allowed_models=("*",))]
        many = [tenant(f"tenant-{n}", f"hg_{n:037d}") for n in range(1, TENANTS)]
        changing = [tenant("tenant-0", f"hg_{n:037d}") for n in (TENANTS, TENANTS + 1)]
        # Compiled ahead: it is the operator's work and not the gateway's.
        self._first = compile_shards(few)
        self._rest = [compile_shards([*few, *many, each]) for each in changing]
        self._turn = 0

    async def next(self) -> None:
        shards = self._rest[self._turn % 2] if self._turn else self._first
        self._turn += 1
        pointer = Pointer(schema=1, epoch=1, sequence=self._turn, shards=shards.digests)
        missing = self._snapshots.missing(pointer)
        await self._snapshots.swap(pointer, {digest: shards.contents[digest] for digest in missing})


async def serve(port: int, ear: int, mocks: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", ear))
    pods = Pods(mocks)
    for dialect in RUNTIMES:
        for pace, address in MOCKS.items():
            pods.put(pod(f"{dialect}-{pace}", address))
    gateway = Gateway(
        region="bench",
        pods=pods,
        limits=Limits(),
        patience=Patience(),
        most=4096,
        default_max_tokens=64,
    )
    turns = Turns(gateway)
    await turns.next()
    loop.add_signal_handler(signal.SIGUSR1, lambda: asyncio.ensure_future(turns.next()))
    await gateway.edge.listen("127.0.0.1", port)
    await asyncio.Event().wait()


def main() -> None:
    gateway_main.configure_logs()
    sys.setswitchinterval(gateway_main.SWITCH)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(*map(int, sys.argv[1:])))


if __name__ == "__main__":
    main()
