"""What `bench.control` stands on: a light cluster, an operator, and objects to create there."""

import asyncio
import base64
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from bench.programs import ROOT, Program, Programs
from headgate_api.snapshot import LABEL
from headgate_cluster.binaries import built
from headgate_cluster.light import LightCluster
from headgate_cluster.processes import free_ports
from headgate_kube.client import Client
from headgate_kube.resources import BY_KIND, CONFIG_MAPS, NAMESPACES, Resource
from headgate_kube.watch import Put, watch

NAMESPACE: Final = "bench"
ACCOUNT: Final = "programs"
AT_ONCE: Final = 32  # requests of ours to the API server
CALM_SECONDS: Final = 5.0  # from the last status to rest: the last snapshot, the last events
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


async def first_snapshot(client: Client) -> None:
    async for change in watch(client, CONFIG_MAPS, namespace=NAMESPACE, selector=LABEL):
        if isinstance(change, Put):
            return


def account(light: LightCluster, folder: Path) -> Path:
    """Write a kubeconfig with a service account's token, which is what our programs have in a pod.

    The API server remembers a token; the certificate of `light.kubeconfig` it verifies anew for
    each request, which took 7 % of its CPU time.
    """
    light.kubectl("create", "serviceaccount", ACCOUNT, "-n", NAMESPACE)
    rights = "--clusterrole=cluster-admin", f"--serviceaccount={NAMESPACE}:{ACCOUNT}"
    light.kubectl("create", "clusterrolebinding", ACCOUNT, *rights)
    token = light.kubectl("create", "token", ACCOUNT, "-n", NAMESPACE, "--duration=4h").strip()
    config = yaml.safe_load(light.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


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
        programs = Programs(account(light, folder), folder)
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
