"""ModelDeployments from create to status, the operator at rest, and its memory."""

import asyncio
import time
from typing import Final

from bench.control_ground import (
    CALM_SECONDS,
    Bench,
    each,
    model,
    say,
    settle,
    stick,
)
from bench.programs import metric
from bench.report import Figure
from headgate_kube.resources import BY_KIND

REST_SECONDS: Final = 20.0
SERVER_CPU: Final = "process_cpu_seconds_total"
WRITING: Final = ("POST", "PUT", "PATCH", "APPLY", "DELETE")


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


def requests(text: str, *verbs: str) -> float:
    """Requests that the API server has served so far; the operator's Lease is not counted."""
    name = "apiserver_request_total"
    return sum(
        metric(text, name, verb=verb) - metric(text, name, verb=verb, resource="leases")
        for verb in verbs
    )
