"""`make bench-control`: the control plane on a light cluster (real kube-apiserver, no pods).

First ModelDeployments: from create to status, the operator at rest, its memory. Then, with 3
gateways and many tenants: from an applied TenantQuota to the moment when the last gateway takes
its key, and how long a gateway's event loop keeps requests waiting while it swaps snapshots.
"""

import argparse
import asyncio
import base64
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.ears import listening
from bench.gateway import Waits
from bench.programs import ROOT, Program, Programs, metric
from bench.report import Figure, percentile, report
from headgate_api.snapshot import LABEL
from headgate_cluster.binaries import built
from headgate_cluster.light import LightCluster
from headgate_cluster.processes import free_ports
from headgate_kube.client import Client
from headgate_kube.resources import (
    BY_KIND,
    CONFIG_MAPS,
    NAMESPACES,
    Resource,
)
from headgate_kube.watch import Put, watch

NAMESPACE: Final = "bench"
GATEWAYS: Final = 3
AT_ONCE: Final = 32  # requests of ours to the API server
CALM_SECONDS: Final = 5.0  # from the last status to rest: the last snapshot, the last events
REST_SECONDS: Final = 20.0
SERVER_CPU: Final = "process_cpu_seconds_total"
WRITING: Final = ("POST", "PUT", "PATCH", "APPLY", "DELETE")
Object = dict[str, Any]


def say(sentence: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {sentence}", flush=True)


def model(number: int) -> Object:
    variant = {"name": "bf16", "source": {"uri": "hf://org/model@main"}}
    return manifest("ModelDeployment", f"model-{number}", spec={"variants": [variant]})


def tenant(number: int) -> Object:
    credential = {"name": "keys", "apiKeys": {"secretRef": {"name": f"keys-{number}"}}}
    return manifest("TenantQuota", f"tenant-{number}", spec={"credentials": [credential]})


def secret(number: int) -> Object:
    key = base64.b64encode(key_of(number).encode()).decode()
    return manifest("Secret", f"keys-{number}", data={"key": key})


def key_of(number: int) -> str:
    return f"hg_{number:037d}"


def stick(name: str, turn: int) -> Object:
    return manifest("ConfigMap", name, data={"turn": str(turn)})


def manifest(kind: str, name: str, **rest: Any) -> Object:
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": BY_KIND[kind].api_version, "kind": kind, "metadata": meta, **rest}


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs."""

    light: LightCluster
    client: Client
    http: aiohttp.ClientSession
    programs: Programs
    operator: Program
    operator_port: int

    async def create(self, body: Object) -> None:
        await self.client.create(BY_KIND[body["kind"]], NAMESPACE, body)

    async def operator_metrics(self) -> str:
        async with self.http.get(f"http://127.0.0.1:{self.operator_port}/metrics") as answer:
            return await answer.text()

    def server_metrics(self) -> str:
        return self.light.kubectl("get", "--raw", "/metrics")


def requests(text: str, *verbs: str) -> float:
    """Requests that the API server has served so far; the operator's Lease is not counted."""
    name = "apiserver_request_total"
    return sum(
        metric(text, name, verb=verb) - metric(text, name, verb=verb, resource="leases")
        for verb in verbs
    )


async def each(work: Callable[[int], Awaitable[object]], count: int) -> float:
    """Do `work(0..count-1)`, AT_ONCE at a time, and return the seconds it took."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return time.perf_counter() - started


async def settle(
    bench: Bench, resource: Resource, create: Callable[[int], Awaitable[object]], count: int
) -> list[float]:
    """Create objects; return the seconds from each one's creation until it had a status."""
    began: dict[str, float] = {}
    took: dict[str, float] = {}
    done = asyncio.Event()
    prefix = f"{resource.kind.removesuffix('Deployment').removesuffix('Quota').lower()}-"

    async def follow() -> None:
        async for change in watch(bench.client, resource, namespace=NAMESPACE):
            if isinstance(change, Put) and "observedGeneration" in change.object.get("status", {}):
                name = change.object["metadata"]["name"]
                if name in began:
                    took.setdefault(name, time.perf_counter() - began[name])
                if len(took) == count:
                    done.set()

    async def one(number: int) -> None:
        began[f"{prefix}{number}"] = time.perf_counter()
        await create(number)

    following = asyncio.create_task(follow())
    try:
        await each(one, count)
        async with asyncio.timeout(600):
            await done.wait()
    finally:
        following.cancel()
    return list(took.values())


async def models(bench: Bench, count: int) -> list[Figure]:
    """ModelDeployments from create to status written, then the operator at rest."""
    say(f"the bare thing: {count} ConfigMaps, each applied 7 times")

    async def bare(number: int) -> None:
        for turn in range(7):  # a model is 1 create, 5 children, 1 status
            await bench.client.apply(stick(f"bare-{number}", turn), manager="bench")

    yardstick = await each(bare, count)
    memory, cpu = bench.operator.resident_kib, bench.operator.cpu_seconds
    before = bench.server_metrics()
    say(f"creating {count} ModelDeployments")
    started = time.perf_counter()
    took = await settle(bench, BY_KIND["ModelDeployment"], lambda n: bench.create(model(n)), count)
    seconds = time.perf_counter() - started
    say(f"all written after {seconds:.1f} s; {CALM_SECONDS + REST_SECONDS:.0f} s of rest")
    await asyncio.sleep(CALM_SECONDS)
    cpu = bench.operator.cpu_seconds - cpu
    after = bench.server_metrics()
    server_cpu = metric(after, SERVER_CPU) - metric(before, SERVER_CPU)
    served = requests(after, *WRITING) - requests(before, *WRITING)
    text = await bench.operator_metrics()
    passes = metric(text, "headgate_reconcile_total")
    rest = await at_rest(bench, count)
    kib = (bench.operator.resident_kib - memory) / count
    return [
        Figure(
            name="ModelDeployments, create to last status",
            value=seconds,
            unit="s",
            goal=30.0,
            yardstick=yardstick,
            spread=took,
        ),
        Figure(name="  operator CPU per ModelDeployment", value=1000 * cpu / count, unit="ms"),
        Figure(
            name="  API server CPU per ModelDeployment", value=1000 * server_cpu / count, unit="ms"
        ),
        Figure(name="  passes per ModelDeployment", value=passes / count, unit=""),
        Figure(name="  writes per ModelDeployment", value=served / count, unit=""),
        *rest,
        Figure(name="operator memory per object", value=kib, unit="KiB", goal=45.0),
    ]


async def at_rest(bench: Bench, count: int) -> list[Figure]:
    """What happens while nothing changes."""

    async def counted() -> tuple[float, ...]:
        return (
            requests(server := bench.server_metrics(), *WRITING),
            metric(await bench.operator_metrics(), "headgate_reconcile_total"),
            requests(server, "GET", "LIST"),
            bench.operator.log_lines,
        )

    before = await counted()
    await asyncio.sleep(REST_SECONDS)
    writes, passes, reads, lines = (
        now - then for now, then in zip(await counted(), before, strict=True)
    )
    return [
        Figure(name="writes per object at rest", value=writes / count, unit="", goal=0.0),
        Figure(name="  passes per object at rest", value=passes / count, unit="", goal=0.0),
        Figure(name="  reads at rest", value=reads / REST_SECONDS, unit="1/s"),
        Figure(name="  operator log lines at rest", value=lines, unit=""),
    ]


@asynccontextmanager
async def watching(client: Client, name: str) -> AsyncIterator[asyncio.Queue[str]]:
    """Tell the values of a ConfigMap's entry `turn` as a bare watch sees them."""
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def follow() -> None:
        fields = f"metadata.name={name}"
        async for change in watch(client, CONFIG_MAPS, namespace=NAMESPACE, fields=fields):
            if isinstance(change, Put):
                seen.put_nowait(change.object["data"]["turn"])

    task = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        task.cancel()


async def bare_watch(client: Client, samples: int) -> list[float]:
    """Seconds from a write to the moment when a plain watch has it: what no design can beat."""
    took = []
    async with watching(client, "stick") as seen:
        for turn in range(samples):
            started = time.perf_counter()
            await client.apply(stick("stick", turn), manager="bench")
            while await seen.get() != str(turn):
                pass
            took.append(time.perf_counter() - started)
    return took


async def taken_by(http: aiohttp.ClientSession, port: int, key: str) -> None:
    """Ask until the gateway takes the key."""
    url, headers = f"http://127.0.0.1:{port}/v1/models", {"Authorization": f"Bearer {key}"}
    while True:
        with suppress(aiohttp.ClientConnectionError):  # not started yet
            async with http.get(url, headers=headers) as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.005)


async def tenants(bench: Bench, count: int, samples: int) -> list[Figure]:
    """Gateways from nothing to `count` tenants, then one tenant more at a time."""
    serving, ears_of = start_gateways(bench)

    async def create(number: int) -> None:
        await bench.create(secret(number))
        await bench.create(tenant(number))

    async def taken(number: int) -> None:
        await asyncio.gather(*(taken_by(bench.http, port, key_of(number)) for port in serving))

    async with listening(ears_of) as ears:
        await bench.create(secret(count + samples))
        await bench.create(tenant(count + samples))
        await taken(count + samples)
        await asyncio.sleep(CALM_SECONDS)
        await ears.ask()  # what a start costs keeps nobody waiting
        say(f"creating {count} tenants")
        started = time.perf_counter()
        await settle(bench, BY_KIND["TenantQuota"], create, count)
        for number in range(0, count, max(1, count // 10)):
            await taken(number)
        say(f"all in force after {time.perf_counter() - started:.1f} s")
        grown = await ears.ask()
        await asyncio.sleep(CALM_SECONDS)
        await ears.ask()
        quiet = await bare_watch(bench.client, samples), await ears.ask()
        say(f"adding {samples} tenants, one at a time")
        took, swaps = [], []
        for number in range(count, count + samples):
            await bench.create(secret(number))
            started = time.perf_counter()
            await bench.create(tenant(number))
            await taken(number)
            took.append(time.perf_counter() - started)
            swaps += await ears.ask()
    return [
        Figure(
            name=f"apply to the last of {GATEWAYS} gateways, p99",
            value=percentile(took, 0.99),
            unit="s",
            goal=1.0,
            yardstick=percentile(quiet[0], 0.99),
            spread=took,
        ),
        *stalls("one tenant more", swaps, quiet[1]),
        *stalls("all tenants new", grown, quiet[1]),
    ]


def start_gateways(bench: Bench) -> tuple[list[int], dict[int, int]]:
    """Start them; return their ports for requests, and the process id by the port for stamps."""
    ports = free_ports(3 * GATEWAYS)
    ears = {}
    for number in range(GATEWAYS):
        port, admin_port, ear = ports[number::GATEWAYS]
        settings = {
            "PORT": str(port),
            "ADMIN_PORT": str(admin_port),
            "NAMESPACE": NAMESPACE,
            "WATCH_NAMESPACES": NAMESPACE,
            "REGION": "bench",
            "SNAPSHOT_DIR": tempfile.mkdtemp(dir=bench.programs.folder),
        }
        program = bench.programs.start(
            f"gateway-{number}",
            *("python", "-m", "bench.gateway", str(ear)),
            settings={f"HEADGATE_GATEWAY_{name}": value for name, value in settings.items()},
        )
        ears[ear] = program.process.pid
    return ports[:GATEWAYS], ears


def stalls(what: str, during: list[Waits], quiet: list[Waits]) -> list[Figure]:
    """The gateways' own doing is judged; what others on the cores add to it is told."""
    own = [1000 * waits.own for waits in during]
    felt = [1000 * waits.felt for waits in during]
    return [
        Figure(
            name=f"loop stall in a swap, {what}",
            value=max(own),
            unit="ms",
            goal=2.0,
            yardstick=1000 * max(waits.own for waits in quiet),
            spread=own,
        ),
        Figure(
            name=f"  and by other programs, {what}",
            value=max(felt),
            unit="ms",
            yardstick=1000 * max(waits.felt for waits in quiet),
            spread=felt,
        ),
    ]


async def first_snapshot(client: Client) -> None:
    async for change in watch(client, CONFIG_MAPS, namespace=NAMESPACE, selector=LABEL):
        if isinstance(change, Put):
            return


@asynccontextmanager
async def ground() -> AsyncIterator[Bench]:
    """A light cluster with our CRDs and an operator that has published its first snapshot."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-")))
        light = stack.enter_context(LightCluster(built()))
        light.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        client = await Client.connect(user_agent="headgate-bench", kubeconfig=str(light.kubeconfig))
        stack.push_async_callback(client.close)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await client.create(
            NAMESPACES, None, {"kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )
        programs = Programs(light.kubeconfig, folder)
        stack.callback(programs.stop)
        (port,) = free_ports(1)
        settings = {
            "NAMESPACE": NAMESPACE,
            "REGION": "bench",
            "RUNTIME_IMAGE": "localhost/none:1",
            "TRTLLM_SERVE_IMAGE": "localhost/none:1",
            "PORT": str(port),
        }
        operator = programs.start(
            "operator",
            "headgate-operator",
            settings={f"HEADGATE_OPERATOR_{name}": value for name, value in settings.items()},
        )
        async with asyncio.timeout(60):
            await first_snapshot(client)
        yield Bench(light, client, http, programs, operator, port)


async def run(model_count: int, tenant_count: int, samples: int) -> None:
    async with ground() as bench:
        figures = await models(bench, model_count)
        figures += await tenants(bench, tenant_count, samples)
    report("control", figures, models=model_count, tenants=tenant_count, samples=samples)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.control",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=int, default=1000, help="ModelDeployments (1000)")
    parser.add_argument("--tenants", type=int, default=10_000, help="TenantQuotas (10000)")
    parser.add_argument("--samples", type=int, default=100, help="tenants added singly (100)")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.models, arguments.tenants, arguments.samples))


if __name__ == "__main__":
    main()
