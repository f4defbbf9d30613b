"""`make bench-gateway`: what the gateway costs on one core, beside nginx and HAProxy.

The server under test has a core of its own; the mock model servers and the load share another. All
is done in rounds, each server in its turn, and a figure is the median of the rounds: programs on
the same machine come and go. CPU time per request is what they disturb least.
"""

import argparse
import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from bench.ears import listening
from bench.gateway_ground import Ground, GroundError, Server, ground
from bench.report import Figure, report

CHAT: Final = "/v1/chat/completions"
SHORT: Final = 16  # words of an answer
LONG: Final = 200
STREAMS: Final = 512
MIB: Final = 1024.0
Samples = dict[str, list[float]]


@dataclass(slots=True)
class Measured:
    """The samples of each figure, by server."""

    of: dict[str, Samples] = field(default_factory=dict)

    def add(self, server: str, **values: float) -> None:
        for name, value in values.items():
            self.of.setdefault(server, {}).setdefault(name, []).append(value)

    def get(self, server: str, name: str) -> float:
        return median(self.of[server][name])

    def figure(
        self, name: str, label: str, unit: str, *, of: str = "gateway", **more: Any
    ) -> Figure:
        """A figure of the gateway; nginx's is the yardstick where it has one."""
        stick = self.of["nginx"].get(name)
        return Figure(
            name=label,
            value=self.get(of, name),
            unit=unit,
            yardstick=median(stick) if stick else None,
            spread=self.of[of][name],
            **more,
        )


def say(sentence: str) -> None:
    print(sentence, flush=True)


def plain(bench: Ground, server: Server, measured: Measured, seconds: float, **body: Any) -> None:
    found = bench.load(server, "-c", 64, "-d", seconds, path=CHAT, max_tokens=SHORT, **body)
    answers = found["answers"]
    measured.add(server.name, rps=answers / found["seconds"], cpu=1e6 * found["cpu"] / answers)


def curt(bench: Ground, server: Server, measured: Measured, seconds: float, **body: Any) -> None:
    found = bench.load(server, "-c", 64, "-d", seconds, path=CHAT, max_tokens=1, **body)
    measured.add(server.name, cpu_curt=1e6 * found["cpu"] / found["answers"])


def alone(bench: Ground, server: Server, measured: Measured, seconds: float, **body: Any) -> None:
    found = bench.load(server, "-c", 1, "-d", seconds, path=CHAT, max_tokens=SHORT, **body)
    measured.add(server.name, p50=found["latency"]["p50"], p99=found["latency"]["p99"])


def fast(bench: Ground, server: Server, measured: Measured, seconds: float, **body: Any) -> None:
    body["model"] = body["model"].replace("whole", "fast")
    options = ("-c", 64, "-d", seconds)
    found = bench.load(server, *options, path=CHAT, max_tokens=LONG, stream=True, **body)
    words = found["words"]
    measured.add(server.name, eps=words / found["seconds"], cpu_event=1e6 * found["cpu"] / words)


def paced(bench: Ground, server: Server, measured: Measured, seconds: float, **body: Any) -> None:
    body["model"] = body["model"].replace("whole", "paced")
    options = ("-c", STREAMS, "-d", seconds, "-s", seconds / 2)
    found = bench.load(server, *options, path=CHAT, max_tokens=LONG, stream=True, **body)
    measured.add(
        server.name,
        hop=found["hop"]["p50"] / 1000,
        hop99=found["hop"]["p99"] / 1000,
        cpu_paced=1e6 * found["cpu"] / found["words"],
    )
    if server.program:
        measured.add(server.name, rss=server.program.resident_kib / MIB)


def rounds(bench: Ground, count: int, seconds: float) -> Measured:
    measured = Measured()
    servers = (bench.nginx, bench.haproxy, bench.gateway)
    steps: list[tuple[Callable[..., None], float, tuple[Server, ...]]] = [
        (plain, seconds, servers),
        (curt, seconds, (bench.nginx, bench.gateway)),
        (alone, seconds, (bench.direct, *servers)),
        (fast, seconds, servers),
        (paced, 3 * seconds, (bench.nginx, bench.gateway)),
    ]
    for turn in range(count):
        say(f"round {turn + 1} of {count}")
        for step, time, among in steps:
            for server in among:
                step(bench, server, measured, time, model="llmapi-whole")
    for _ in range(count):
        ensemble = Server("ensemble", bench.gateway.at, bench.gateway.program)
        plain(bench, ensemble, measured, seconds, model="ensemble-whole")
        fast(bench, ensemble, measured, seconds, model="ensemble-whole")
    return measured


def flat(bench: Ground, requests: int) -> Figure:
    """Resident memory before and after many requests."""
    say(f"{requests} requests, for the memory")
    program = bench.gateway.program
    assert program is not None
    before = program.resident_kib
    options = ("-c", 64, "-d", 900, "-n", requests)
    bench.load(bench.gateway, *options, path=CHAT, max_tokens=SHORT, model="llmapi-whole")
    grown = (program.resident_kib - before) / MIB
    return Figure(name=f"memory growth, {requests:,} requests", value=grown, unit="MiB", goal=1.0)


async def swaps(bench: Ground, count: int) -> list[Figure]:
    """The longest that a request waits for the event loop, while snapshots are swapped."""
    say(f"{count} snapshot swaps")
    program = bench.gateway.program
    assert program is not None

    async def waits(swap: bool) -> tuple[list[float], list[float], float]:
        own, felt = [], []
        options = ("-c", 1, "-d", 0.5)
        longest = 0.0
        for _ in range(count):
            await ears.ask()
            if swap:
                os.kill(program.process.pid, signal.SIGUSR1)
            body = {"path": CHAT, "max_tokens": SHORT, "model": "llmapi-whole"}
            found = await asyncio.to_thread(bench.load, bench.gateway, *options, **body)
            longest = max(longest, found["latency"]["max"] / 1000)
            (heard,) = await ears.ask()
            own.append(1000 * heard.own)
            felt.append(1000 * heard.felt)
        return own, felt, longest

    async with listening({bench.ear: program.process.pid}) as ears:
        os.kill(program.process.pid, signal.SIGUSR1)
        await asyncio.sleep(5)
        quiet, busy = await waits(False), await waits(True)
    more = {"unit": "ms", "yardstick": max(quiet[0]), "spread": busy[0]}
    return [
        Figure(name="stall of a swap, 10,000 tenants", value=max(busy[0]), goal=2.0, **more),
        Figure(name="  longest request meanwhile", value=busy[2], unit="ms", yardstick=quiet[2]),
    ]


def figures(measured: Measured) -> list[Figure]:
    cpu = measured.get("gateway", "cpu")
    ratio = cpu / measured.get("nginx", "cpu")
    added = {}
    for name in ("p50", "p99"):
        direct = measured.get("direct", name)
        added[name] = [(measured.get(s, name) - direct) / 1000 for s in ("gateway", "nginx")]
    figure = measured.figure
    return [
        figure("cpu", "CPU per request, 64 connections", "us", goal=82),
        Figure(name="  in nginx's", value=ratio, unit="x", goal=4.8),
        figure("cpu_curt", "  where the answer is one word", "us"),
        figure("cpu", "  CPU, ensemble dialect", "us", of="ensemble"),
        figure("cpu", "  CPU, HAProxy", "us", of="haproxy"),
        figure("rps", "requests per second", "1/s", floor=10_000),
        figure("rps", "  requests, HAProxy", "1/s", of="haproxy"),
        figure("eps", "streamed events per second", "1/s", floor=30_000),
        figure("eps", "  events, ensemble dialect", "1/s", of="ensemble"),
        figure("eps", "  events, HAProxy", "1/s", of="haproxy"),
        figure("cpu_event", "  CPU per event", "us"),
        *(
            Figure(
                name=f"added at 1 connection, {name}",
                value=added[name][0],
                unit="ms",
                goal=goal,
                yardstick=added[name][1],
            )
            for name, goal in (("p50", 0.3), ("p99", 1.0))
        ),
        figure("hop", f"hop of an event, {STREAMS} paced streams, p50", "ms"),
        figure("hop99", f"hop of an event, {STREAMS} paced streams, p99", "ms", goal=2.0),
        figure("cpu_paced", "  CPU per paced event", "us"),
        figure("rss", f"memory at {STREAMS} streams", "MiB", goal=60),
    ]


def run(arguments: argparse.Namespace) -> None:
    with ground() as bench:
        measured = rounds(bench, arguments.rounds, arguments.seconds)
        told = figures(measured)
        told.append(flat(bench, arguments.requests))
        told += asyncio.run(swaps(bench, arguments.swaps))
    report("gateway", told, rounds=arguments.rounds, cores=os.cpu_count())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.gateway_load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of one run (3)")
    parser.add_argument("--requests", type=int, default=60_000, help="for the memory (60000)")
    parser.add_argument("--swaps", type=int, default=10, help="snapshot swaps (10)")
    try:
        run(parser.parse_args())
    except GroundError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
