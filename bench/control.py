"""`make bench-control`: the control plane on a light cluster (real kube-apiserver, no pods).

Convergence of 1,000 ModelDeployments, writes at rest, operator memory per object; then, with 3
gateways and 10,000 tenants, the time from an applied TenantQuota to the moment when every gateway
takes its key, and the longest stall of a gateway's loop while it swaps snapshots.
"""

import argparse
import asyncio
import base64
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.report import Figure, percentile, report
from headgate_cluster.binaries import built
from headgate_cluster.light import LightCluster
from headgate_cluster.processes import free_ports
from headgate_kube.client import Client
from headgate_kube.resources import (
    CONFIG_MAPS,
    MODEL_DEPLOYMENTS,
    NAMESPACES,
    SECRETS,
    TENANT_QUOTAS,
)
from headgate_kube.watch import Put, watch

ROOT: Final = Path(__file__).parent.parent
BIN: Final = Path(sys.executable).parent
NAMESPACE: Final = "bench"
GATEWAYS: Final = 3
AT_ONCE: Final = 32  # requests of ours to the API server
REST_SECONDS: Final = 20.0
WRITES: Final = re.compile(
    r'apiserver_request_total\{(?=.*verb="(?:POST|PUT|PATCH|APPLY|DELETE)")'
    r'(?!.*resource="(?:leases|events|tokenreviews|subjectaccessreviews)").*\} (\S+)'
)


def say(sentence: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {sentence}", file=sys.stderr, flush=True)


async def each(work: Callable[[int], Awaitable[object]], count: int) -> float:
    """Do `work(0..count-1)`, AT_ONCE at a time, and return the seconds it took."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return time.perf_counter() - started


async def until(check: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not await check():
        if time.monotonic() > end:
            raise SystemExit(f"bench: not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.1)


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found, status
    return int(found.group(1))


class Programs:
    """Our programs, as processes of their own, against the light cluster."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: str, *arguments: str, **settings: str) -> int:
        """Start one; its log goes to a file. Returns the process id."""
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [BIN / command, *arguments],
                env=self._environment | settings,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        self._running.append(process)
        return process.pid

    def stop(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGKILL)
            process.wait()


def model(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": f"model-{number}", "namespace": NAMESPACE},
        "spec": {"variants": [{"name": "bf16", "source": {"uri": "hf://org/model@main"}}]},
    }


def key_of(number: int) -> str:
    return f"hg_{number:037d}"


def secret(number: int) -> dict[str, Any]:
    data = {"key": base64.b64encode(key_of(number).encode()).decode()}
    meta = {"name": f"keys-{number}", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}


def tenant(number: int) -> dict[str, Any]:
    credential = {"name": "keys", "apiKeys": {"secretRef": {"name": f"keys-{number}"}}}
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "TenantQuota",
        "metadata": {"name": f"tenant-{number}", "namespace": NAMESPACE},
        "spec": {"credentials": [credential]},
    }


def writes(light: LightCluster) -> float:
    """Writes that the API server has served so far, without leases, events and reviews."""
    return sum(map(float, WRITES.findall(light.kubectl("get", "--raw", "/metrics"))))


async def written(client: Client, resource: Any, count: int) -> bool:
    items, _ = await client.list(resource, NAMESPACE)
    done = sum("observedGeneration" in item.get("status", {}) for item in items)
    return done >= count


async def converge(light: LightCluster, client: Client, operator: int, models: int) -> list[Figure]:
    """ModelDeployments from create to status written, then the operator at rest."""
    say(f"the bare thing: {models} ConfigMaps created and 6 small applies each")
    body = {"apiVersion": "v1", "kind": "ConfigMap"}

    async def bare(number: int) -> None:
        meta = {"name": f"bare-{number}", "namespace": NAMESPACE}
        for turn in range(7):
            await client.apply(
                {**body, "metadata": meta, "data": {"turn": str(turn)}}, manager="bench"
            )

    yardstick = await each(bare, models)
    before = resident_kib(operator)
    say(f"creating {models} ModelDeployments")
    started = time.perf_counter()
    await each(lambda n: client.create(MODEL_DEPLOYMENTS, NAMESPACE, model(n)), models)
    await until(lambda: written(client, MODEL_DEPLOYMENTS, models), 300, "every status written")
    seconds = time.perf_counter() - started
    say(f"all written after {seconds:.1f} s; {REST_SECONDS:.0f} s of rest")
    await asyncio.sleep(5)
    counted = writes(light)
    await asyncio.sleep(REST_SECONDS)
    at_rest = (writes(light) - counted) / models
    memory = (resident_kib(operator) - before) / models
    return [
        Figure(
            name="ModelDeployments: create to status written",
            value=seconds,
            unit="s",
            goal=30.0,
            yardstick=yardstick,
        ),
        Figure(name="writes per object at rest", value=at_rest, unit="writes", goal=0.0),
        Figure(name="operator memory per object", value=memory, unit="KiB", goal=45.0),
    ]


@asynccontextmanager
async def watching(client: Client, name: str) -> AsyncIterator[asyncio.Queue[str]]:
    """Tell the values of a ConfigMap's entry `turn` as a bare watch sees them."""
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def follow() -> None:
        async for change in watch(
            client, CONFIG_MAPS, namespace=NAMESPACE, fields=f"metadata.name={name}"
        ):
            if isinstance(change, Put):
                seen.put_nowait(change.object["data"]["turn"])

    task = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        task.cancel()


async def bare_watch(client: Client, samples: int) -> list[float]:
    """Seconds from a write to the moment when a plain watch has it: what no design can beat."""
    body = {"apiVersion": "v1", "kind": "ConfigMap"}
    meta = {"name": "stick", "namespace": NAMESPACE}
    took = []
    async with watching(client, "stick") as seen:
        for turn in range(samples):
            started = time.perf_counter()
            await client.apply(
                {**body, "metadata": meta, "data": {"turn": str(turn)}}, manager="bench"
            )
            while await seen.get() != str(turn):
                pass
            took.append(time.perf_counter() - started)
    return took


async def taken_by(http: aiohttp.ClientSession, port: int, key: str) -> float:
    """Ask until the gateway takes the key; the moment when it did."""
    headers = {"Authorization": f"Bearer {key}"}
    while True:
        async with http.get(f"http://127.0.0.1:{port}/v1/models", headers=headers) as answer:
            if answer.status == 200:
                return time.perf_counter()
        await asyncio.sleep(0.002)


async def apply_to_gateway(
    client: Client, http: aiohttp.ClientSession, ports: list[int], tenants: int, samples: int
) -> list[float]:
    """Seconds from the apply of a new tenant until the last gateway takes its key."""
    took = []
    for number in range(tenants, tenants + samples):
        await client.create(SECRETS, NAMESPACE, secret(number))
        started = time.perf_counter()
        await client.create(TENANT_QUOTAS, NAMESPACE, tenant(number))
        asked = (taken_by(http, port, key_of(number)) for port in ports)
        took.append(max(await asyncio.gather(*asked)) - started)
    return took


async def gateways_swap(
    client: Client, programs: Programs, folder: Path, tenants: int, samples: int
) -> list[Figure]:
    ports = free_ports(2 * GATEWAYS)
    for number in range(GATEWAYS):
        state = folder / f"gateway-{number}"
        state.mkdir()
        programs.start(
            f"gateway-{number}",
            "headgate",
            "serve",
            HEADGATE_GATEWAY_PORT=str(ports[number]),
            HEADGATE_GATEWAY_ADMIN_PORT=str(ports[GATEWAYS + number]),
            HEADGATE_GATEWAY_NAMESPACE=NAMESPACE,
            HEADGATE_GATEWAY_WATCH_NAMESPACES=NAMESPACE,
            HEADGATE_GATEWAY_REGION="bench",
            HEADGATE_GATEWAY_SNAPSHOT_DIR=str(state),
        )
    say(f"creating {tenants} tenants")

    async def create(number: int) -> None:
        await client.create(SECRETS, NAMESPACE, secret(number))
        await client.create(TENANT_QUOTAS, NAMESPACE, tenant(number))

    await each(create, tenants)
    await until(lambda: written(client, TENANT_QUOTAS, tenants), 600, "every tenant written")
    async with aiohttp.ClientSession() as http:
        for port in ports[:GATEWAYS]:
            await asyncio.wait_for(taken_by(http, port, key_of(tenants - 1)), 120)
        stick = await bare_watch(client, samples)
        say(f"adding {samples} tenants, one at a time")
        took = await apply_to_gateway(client, http, ports[:GATEWAYS], tenants, samples)
        stalls = [await stall_of(http, port) for port in ports[GATEWAYS:]]
    return [
        Figure(
            name=f"apply to the last of {GATEWAYS} gateways, p50",
            value=percentile(took, 0.5),
            unit="s",
            yardstick=percentile(stick, 0.5),
        ),
        Figure(
            name=f"apply to the last of {GATEWAYS} gateways, p99",
            value=percentile(took, 0.99),
            unit="s",
            goal=1.0,
            yardstick=percentile(stick, 0.99),
        ),
        Figure(
            name="longest loop stall of a gateway in a swap",
            value=1000 * max(stalls),
            unit="ms",
            goal=2.0,
        ),
    ]


async def stall_of(http: aiohttp.ClientSession, port: int) -> float:
    """The gateway's own measure: its longest step, s, while it took in snapshots."""
    async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    found = re.search(r"^headgate_gateway_snapshot_longest_step_seconds (\S+)$", text, re.MULTILINE)
    assert found, "the gateway exports no headgate_gateway_snapshot_longest_step_seconds"
    return float(found.group(1))


async def run(models: int, tenants: int, samples: int) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-")))
        light = stack.enter_context(LightCluster(built()))
        light.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        client = await Client.connect(user_agent="headgate-bench", kubeconfig=str(light.kubeconfig))
        stack.push_async_callback(client.close)
        await client.create(
            NAMESPACES, None, {"kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )
        programs = Programs(light.kubeconfig, folder)
        stack.callback(programs.stop)
        settings: Mapping[str, str] = {
            "HEADGATE_OPERATOR_NAMESPACE": NAMESPACE,
            "HEADGATE_OPERATOR_WATCH_NAMESPACES": NAMESPACE,
            "HEADGATE_OPERATOR_REGION": "bench",
            "HEADGATE_OPERATOR_RUNTIME_IMAGE": "localhost/none:1",
            "HEADGATE_OPERATOR_PORT": str(free_ports(1)[0]),
        }
        operator = programs.start("operator", "headgate-operator", **settings)

        async def snapshot_is_there() -> bool:
            items, _ = await client.list(CONFIG_MAPS, NAMESPACE, selector="headgate.dev/snapshot")
            return bool(items)

        await until(snapshot_is_there, 60, "the operator's first snapshot")
        figures = await converge(light, client, operator, models)
        figures += await gateways_swap(client, programs, folder, tenants, samples)
        report("control", figures, models=models, tenants=tenants, samples=samples)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.control", description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=100)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.models, arguments.tenants, arguments.samples))


if __name__ == "__main__":
    main()
