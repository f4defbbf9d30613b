"""A TenantQuota on its way to three gateways, and how long a swap keeps their requests waiting."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiohttp

from bench.control_ground import (
    CALM_SECONDS,
    NAMESPACE,
    Bench,
    key_of,
    say,
    secret,
    settle,
    stick,
    tenant,
)
from bench.ears import listening
from bench.gateway import Waits
from bench.report import Figure, percentile
from headgate_cluster.processes import free_ports
from headgate_kube.client import Client
from headgate_kube.resources import BY_KIND, CONFIG_MAPS
from headgate_kube.watch import Put, watch

GATEWAYS: Final = 3


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
