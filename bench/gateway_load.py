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
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final, NamedTuple

from bench.ears import listening
from bench.gateway_cancel import cancelled
from bench.gateway_ground import Ground, GroundError, Server, ground
from bench.programs import image_python
from bench.report import Figure, markdown, report

CHAT: Final = "/v1/chat/completions"
SHORT: Final = 1  # words of an answer
WORDY: Final = 16
LONG: Final = 200
CONNECTIONS: Final = 64
STREAMS: Final = 512
LEAVING: Final = 200  # clients
MIB: Final = 1024.0
SCHEMA: Final = {
    "type": "object",
    "properties": {"say": {"type": "string"}},
    "required": ["say"],
    "additionalProperties": False,
}
JSON_SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {"name": "said", "strict": True, "schema": SCHEMA},
}


class Run(NamedTuple):
    """One use of the load generator in each round."""

    of: str  # whose samples these are
    what: str  # which samples
    server: Server
    measure: "Measure"
    body: dict[str, Any]
    options: tuple[object, ...] = ()


Found = dict[str, Any]
Measure = Callable[[Found, Server], dict[str, float]]


def each_request(found: Found, _: Server) -> dict[str, float]:
    answers = found["answers"]
    return {"cpu": 1e6 * found["cpu"] / answers, "rate": answers / found["seconds"]}


def each_event(found: Found, _: Server) -> dict[str, float]:
    return {
        "cpu": 1e6 * found["cpu"] / found["words"],
        "rate": found["words"] / found["seconds"],
    }


def latency(found: Found, _: Server) -> dict[str, float]:
    return {name: found["latency"][name] / 1000 for name in ("p50", "p99")}


def hops(found: Found, server: Server) -> dict[str, float]:
    assert server.program is not None
    return {
        "cpu": 1e6 * found["cpu"] / found["words"],
        "p50": found["hop"]["p50"] / 1000,
        "p99": found["hop"]["p99"] / 1000,
        "memory": server.program.resident_kib / MIB,
    }


def runs(bench: Ground, seconds: float) -> list[Run]:
    """What is done in each round, and in this order."""
    many = ("-c", CONNECTIONS, "-d", seconds)
    one = ("-c", 1, "-d", seconds)
    spread = ("-c", STREAMS, "-d", 3 * seconds, "-s", 1.5 * seconds)
    short: dict[str, Any] = {"model": "llmapi-whole", "max_tokens": SHORT}
    wordy = short | {"max_tokens": WORDY}
    ensemble, trtllm = short | {"model": "ensemble-whole"}, short | {"model": "trtllm-whole"}
    fast = {"model": "llmapi-fast", "max_tokens": LONG, "stream": True}
    paced = fast | {"model": "llmapi-paced"}
    schema = ensemble | {"response_format": JSON_SCHEMA}
    direct, nginx, haproxy, gateway = bench.direct, bench.nginx, bench.haproxy, bench.gateway
    return [
        *(
            Run(server.name, "plain", server, each_request, short, many)
            for server in (nginx, haproxy, gateway)
        ),
        Run("nginx", "wordy", nginx, each_request, wordy, many),
        Run("gateway", "wordy", gateway, each_request, wordy, many),
        Run("ensemble", "plain", gateway, each_request, ensemble, many),
        Run("trtllm", "plain", gateway, each_request, trtllm, many),
        Run("traced", "plain", bench.traced, each_request, short, many),
        Run("keys", "plain", gateway, each_request, short, ("-k", *many)),
        Run("schema", "plain", gateway, each_request, schema, many),
        *(
            Run(server.name, "alone", server, latency, short, one)
            for server in (direct, nginx, haproxy, gateway)
        ),
        *(
            Run(server.name, "fast", server, each_event, fast, many)
            for server in (nginx, haproxy, gateway)
        ),
        Run("ensemble", "fast", gateway, each_event, fast | {"model": "ensemble-fast"}, many),
        Run("trtllm", "fast", gateway, each_event, fast | {"model": "trtllm-fast"}, many),
        *(
            Run(server.name, "paced", server, hops, paced, spread)
            for server in (nginx, haproxy, gateway)
        ),
    ]


@dataclass(slots=True)
class Samples:
    """By server, what was done, and what was measured."""

    of: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def add(self, run: Run, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.of.setdefault((run.of, run.what, name), []).append(value)

    def value(self, of: str, what: str, name: str) -> float:
        return median(self.of[of, what, name])

    def figure(self, label: str, unit: str, of: str, what: str, name: str, **more: Any) -> Figure:
        """A figure whose yardstick is nginx, at the same work."""
        stick = self.of.get(("nginx", what, name))
        return Figure(
            name=label,
            value=self.value(of, what, name),
            unit=unit,
            yardstick=median(stick) if stick else None,
            spread=self.of[of, what, name],
            **more,
        )


def say(sentence: str) -> None:
    print(sentence, flush=True)


def measured(bench: Ground, rounds: int, seconds: float) -> Samples:
    samples = Samples()
    planned = runs(bench, seconds)
    for run in {(r.server.name, str(r.body)): r for r in planned}.values():
        warm = replace(run.server, name=f"{run.server.name}, at first")
        bench.load(warm, "-c", 8, "-n", 200, path=CHAT, **run.body)
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        for run in planned:
            found = bench.load(run.server, *run.options, path=CHAT, **run.body)
            samples.add(run, run.measure(found, run.server))
    return samples


def figures(samples: Samples) -> list[Figure]:
    figure = samples.figure
    ratio = samples.value("gateway", "plain", "cpu") / samples.value("nginx", "plain", "cpu")
    added = {
        (of, name): samples.value(of, "alone", name) - samples.value("direct", "alone", name)
        for of in ("gateway", "nginx")
        for name in ("p50", "p99")
    }
    return [
        figure("CPU per request", "us", "gateway", "plain", "cpu", goal=82),
        Figure(name="  CPU per request, in nginx's", value=ratio, unit="x", goal=4.8),
        figure("  CPU per request: HAProxy", "us", "haproxy", "plain", "cpu"),
        figure(f"  CPU per request: {WORDY} events", "us", "gateway", "wordy", "cpu"),
        figure("  CPU per request: ensemble dialect", "us", "ensemble", "plain", "cpu"),
        figure("  CPU per request: trtllm-serve", "us", "trtllm", "plain", "cpu"),
        figure("  CPU per request: every trace exported", "us", "traced", "plain", "cpu"),
        figure("  CPU per request: Idempotency-Key", "us", "keys", "plain", "cpu"),
        figure("  CPU per request: json_schema, ensemble", "us", "schema", "plain", "cpu"),
        figure("requests per second", "1/s", "gateway", "plain", "rate", floor=10_000),
        figure("  requests per second: HAProxy", "1/s", "haproxy", "plain", "rate"),
        *(
            Figure(
                name=f"added at one connection, {name}",
                value=added["gateway", name],
                unit="ms",
                goal=goal,
                yardstick=added["nginx", name],
            )
            for name, goal in (("p50", 0.3), ("p99", 1.0))
        ),
        figure("streamed events per second", "1/s", "gateway", "fast", "rate", floor=30_000),
        figure("  events per second: ensemble dialect", "1/s", "ensemble", "fast", "rate"),
        figure("  events per second: trtllm-serve", "1/s", "trtllm", "fast", "rate"),
        figure("  events per second: HAProxy", "1/s", "haproxy", "fast", "rate"),
        figure("  CPU per streamed event", "us", "gateway", "fast", "cpu"),
        figure(f"hop, {STREAMS} paced streams, p50", "ms", "gateway", "paced", "p50"),
        figure(f"hop, {STREAMS} paced streams, p99", "ms", "gateway", "paced", "p99", goal=2.0),
        figure("  hop, p99: HAProxy", "ms", "haproxy", "paced", "p99"),
        figure("  CPU per paced event", "us", "gateway", "paced", "cpu"),
        figure(f"memory at {STREAMS} streams", "MiB", "gateway", "paced", "memory", goal=60),
    ]


def flat(bench: Ground, requests: int) -> Figure:
    """Resident memory before and after many requests."""
    say(f"{requests:,} requests, for the memory")
    program = bench.gateway.program
    assert program is not None
    before = program.resident_kib
    options = ("-c", CONNECTIONS, "-d", 900, "-n", requests)
    bench.load(bench.gateway, *options, path=CHAT, model="llmapi-whole", max_tokens=SHORT)
    grown = (program.resident_kib - before) / MIB
    return Figure(name=f"memory growth, {requests:,} requests", value=grown, unit="MiB", goal=1.0)


async def swaps(bench: Ground, count: int) -> list[Figure]:
    """The longest that a request waits for the event loop, while snapshots are swapped."""
    say(f"{count} snapshot swaps")
    program = bench.gateway.program
    assert program is not None

    async def waits(*, swap: bool) -> tuple[list[float], float]:
        own, longest = [], 0.0
        body: dict[str, Any] = {"model": "llmapi-whole", "max_tokens": SHORT}
        for _ in range(count):
            await ears.ask()
            if swap:
                os.kill(program.process.pid, signal.SIGUSR1)
            options = ("-c", 1, "-d", 0.5)
            found = await asyncio.to_thread(bench.load, bench.gateway, *options, path=CHAT, **body)
            longest = max(longest, found["latency"]["max"] / 1000)
            (heard,) = await ears.ask()
            own.append(1000 * heard.own)
        return own, longest

    async with listening({bench.ear: program.process.pid}) as ears:
        os.kill(program.process.pid, signal.SIGUSR1)  # the many tenants come
        await asyncio.sleep(5)
        quiet, quiet_longest = await waits(swap=False)
        busy, busy_longest = await waits(swap=True)
    return [
        Figure(
            name="own stall in a swap, 10,000 tenants",
            value=max(busy),
            unit="ms",
            goal=2.0,
            yardstick=max(quiet),
            spread=busy,
        ),
        Figure(
            name="  longest request meanwhile",
            value=busy_longest,
            unit="ms",
            yardstick=quiet_longest,
        ),
    ]


def run(arguments: argparse.Namespace) -> None:
    with ground() as bench:
        told = figures(measured(bench, arguments.rounds, arguments.seconds))
        told.append(cancelled(bench, LEAVING))
        told.append(flat(bench, arguments.requests))
        told += asyncio.run(swaps(bench, arguments.swaps))
    report(
        "gateway",
        told,
        rounds=arguments.rounds,
        words=SHORT,
        connections=CONNECTIONS,
        python=str(image_python()[0]),
    )
    if arguments.markdown:
        print(markdown(told))


def parser_of(prog: str, description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Make what both benchmarks of the gateway are told by."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds ({rounds})")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of one run (2)")
    parser.add_argument(
        "--markdown", action="store_true", help="print the table once more for docs"
    )
    return parser


def main() -> None:
    parser = parser_of("bench.gateway_load", __doc__, rounds=3)
    parser.add_argument(
        "--requests",
        type=int,
        default=50_000,
        help="for the growth of memory (50000); 1000000 for the whole truth",
    )
    parser.add_argument("--swaps", type=int, default=10, help="snapshot swaps (10)")
    try:
        run(parser.parse_args())
    except GroundError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
