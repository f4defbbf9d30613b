"""`make bench-routing`: what routing rules and segments cost, and how soon a sentence is there.

First the pieces alone, in this process; then a gateway on a core of its own, with the mocks and the
load of `bench.gateway_load` on another one, and nginx beside it at the same work.
"""

import argparse
import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import yaml

from bench.gateway_ground import KEY, LOCAL, Ground, GroundError, Pace, ground
from bench.gateway_load import CHAT, CONNECTIONS, LONG, SHORT, parser_of, say
from bench.programs import image_python
from bench.report import Figure, markdown, percentile, report
from bench.routing_parts import ROUTES, parts, rules

SPOKEN: Final = Pace(interval=20_000, words=1, sentence=12)
"""As a model speaks: a word every 20 ms, with the space before it."""
STREAMS: Final = 64
ROUTER: Final = {"architecture": "Router", "matchHeaders": ["x-feature"]}
PREFIX: Final = b'data: {"id"'
STAMP: Final = 7  # digits of 26, behind a Q: see http/common.h


def route(name: str, model: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "targets": [{"modelRef": {"name": model}}], **more}


def policy(name: str, *routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "RoutingPolicy",
        "metadata": {"name": name},
        "spec": {"models": [name], "routes": list(routes), **more},
    }


def manifests(folder: Path) -> Path:
    """Write the policies that are compared: they lead to the models of the gateway's benchmark."""
    many = [route(f"r{n}", "llmapi-whole", when=when) for n, when in enumerate(rules(ROUTES - 1))]
    last = route("last", "llmapi-whole")
    objects = [
        policy("routed-plain-whole", last),
        policy(
            "routed-rules-whole", *many, last, architecture="Router", matchHeaders=["x-feature"]
        ),
        policy("routed-pieces-fast", route("all", "llmapi-fast", streaming={"boundary": "Token"})),
        policy("routed-segments-fast", route("all", "llmapi-fast")),
        policy("routed-segments-spoken", route("all", "llmapi-spoken")),
        {
            "apiVersion": "headgate.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "llmapi-spoken"},
            "spec": {
                "model": {"name": "served/llmapi-spoken"},
                "variants": [{"name": "bf16", "source": {"uri": "hf://org/llama@main"}}],
            },
        },
    ]
    file = folder / "routing.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    return file


def loaded(bench: Ground, rounds: int, seconds: float) -> list[Figure]:
    """CPU time of the gateway's process, with and without rules and segments."""
    many = ("-c", CONNECTIONS, "-d", seconds)
    short: dict[str, Any] = {"max_tokens": SHORT}
    fast: dict[str, Any] = {"max_tokens": LONG, "stream": True}
    samples: dict[str, list[float]] = {}
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        for name, server, model, body in (
            ("nginx", bench.nginx, "llmapi-whole", short),
            ("plain", bench.gateway, "routed-plain-whole", short),
            ("rules", bench.gateway, "routed-rules-whole", short),
            ("nginx, streams", bench.nginx, "llmapi-fast", fast),
            ("pieces", bench.gateway, "routed-pieces-fast", fast),
            ("segments", bench.gateway, "routed-segments-fast", fast),
        ):
            found = bench.load(server, *many, path=CHAT, model=model, **body)
            of = found["words"] if "stream" in body else found["answers"]
            samples.setdefault(name, []).append(1e6 * found["cpu"] / of)

    def figure(label: str, name: str, stick: str) -> Figure:
        return Figure(
            name=label,
            value=median(samples[name]),
            unit="us",
            yardstick=median(samples[stick]),
            spread=samples[name],
        )

    return [
        figure("CPU per request: one route", "plain", "nginx"),
        figure(f"CPU per request: {ROUTES} routes with rules", "rules", "nginx"),
        Figure(
            name=f"  {ROUTES} routes add to a request under load",
            value=median(samples["rules"]) - median(samples["plain"]),
            unit="us",
            goal=25,
        ),
        figure("CPU per streamed event: as it comes", "pieces", "nginx, streams"),
        figure("CPU per streamed event: in segments", "segments", "nginx, streams"),
    ]


def made(text: str) -> float:
    """When the mock made a word, s on the monotonic clock, as far as the stamp knows."""
    stamp = 0
    for digit in text[1 : STAMP + 1]:
        stamp = stamp * 26 + ord(digit) - ord("a")
    return stamp / 1e6


async def first_sentences(port: int, rounds: int) -> list[float]:
    """Of many streams at once: from the last word of the first sentence to its reading, ms."""
    found: list[float] = []
    for _ in range(rounds):
        found += await asyncio.gather(*(first_sentence(port, n) for n in range(STREAMS)))
    return found


async def first_sentence(port: int, number: int) -> float:
    await asyncio.sleep(number * SPOKEN.interval / 1e6 / STREAMS)  # not all in one moment
    body = msgspec.json.encode(
        {
            "model": "routed-segments-spoken",
            "messages": [{"role": "user", "content": "Say something."}],
            "max_tokens": 2 * SPOKEN.sentence,
            "stream": True,
        }
    )
    reader, writer = await asyncio.open_connection(LOCAL, port)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    try:
        while True:
            line = await reader.readline()
            now = time.monotonic()
            if not line:
                raise GroundError("the stream ended without a sentence")
            if not line.startswith(PREFIX):
                continue
            event = msgspec.json.decode(line.removeprefix(b"data: "))
            text = event["choices"][0]["delta"].get("content")
            if text:
                last = text.split()[-1]
                return 1000 * ((now - made(last)) % (26**STAMP / 1e6))
    finally:
        writer.close()


def spoken(bench: Ground, rounds: int) -> Figure:
    say(f"{rounds} times {STREAMS} streams, for their first sentence")
    waits = asyncio.run(first_sentences(bench.gateway.at["spoken"][1], rounds))
    return Figure(
        name="first sentence, from its last word on, p95",
        value=percentile(waits, 0.95),
        unit="ms",
        goal=25,
        spread=waits,
    )


def run(arguments: argparse.Namespace) -> None:
    told = parts()
    more: Mapping[str, Pace] = {"spoken": SPOKEN}
    with ground(manifests, more) as bench:
        told += loaded(bench, arguments.rounds, arguments.seconds)
        told.append(spoken(bench, arguments.rounds))
    report(
        "routing",
        told,
        rounds=arguments.rounds,
        routes=ROUTES,
        connections=CONNECTIONS,
        python=str(image_python()[0]),
    )
    if arguments.markdown:
        print(markdown(told))


def main() -> None:
    parser = parser_of("bench.routing", __doc__, rounds=5)
    try:
        run(parser.parse_args())
    except GroundError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
