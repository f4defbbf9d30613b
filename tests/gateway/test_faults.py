"""Every way in which a model server can misbehave, through the real data port.

A row says what a client sees, how often model servers are asked, and what is told about it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest

from headgate_api.snapshot import DeadlineBody, RetryBody

from .clients import Client, at_rest, relaxed, serving, told, tries
from .conftest import Running, pod, until
from .faulty import (
    DIALECTS,
    FAILED,
    FULL,
    WORDS,
    answers,
    breaks,
    drips,
    drop_by_drop,
    resets,
    says,
    silent,
    whole,
    writes,
)
from .upstream import Connection, Script

Start: TypeAlias = Callable[..., Awaitable[Running]]
Faulty: TypeAlias = Callable[[Sequence[bytes]], Script]
"""Makes a script of the events of a good answer."""
STRICT = relaxed(
    deadlines=DeadlineBody(first_segment=0.25, idle_token=0.25),
    retries=RetryBody(backoff_base=0.001, backoff_max=0.001),
)


@dataclass(frozen=True)
class Row:
    """One way to misbehave, and what comes of it.

    Args:
        faulty: makes the script.
        status: of an answer of which nothing has been sent: of plain ones always.
        code: how each attempt ends, and the answer with it.
        text: what a stream gives before.
        again: it is tried again, and another pod that is fine answers.
        hits: requests where the pod is the only one; None: two if it is tried again, or one.
        headers: of the client's request.
        retry_after: s, handed to the client.
        stops: Triton is told by a request of its own to stop.
    """

    faulty: Faulty
    status: int
    code: str
    text: str = ""
    again: bool = False
    hits: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: str | None = None
    stops: bool = False

    def seen(self, *, stream: bool) -> str:
        if self.code == "ok":
            return f"200 {self.text} [DONE]" if stream else f"200 {self.text}"
        if stream and self.text:
            return f"200 {self.text} {self.code}"
        return f"{self.status} {self.code}"

    @property
    def tries(self) -> tuple[str, ...]:
        return (self.code,) * (self.hits or 1 + self.again)


LOST, INVALID, ERROR = "upstream_lost", "upstream_invalid", "upstream_error"
LATE, OVER = "upstream_timeout", "deadline_exceeded"
BUSY, DOWN = "upstream_overloaded", "upstream_unavailable"
HUGE = 1_100_000 * b"x"
SOON = {"x_request_timeout_ms": "800"}
SOMETIME = {"x_request_timeout_ms": "5000"}

MATRIX = {
    # Silence
    "silent before the head": Row(lambda e: silent, 504, LATE, stops=True),
    "silent after the head": Row(lambda e: says(None), 504, LATE),
    "silent after an event": Row(lambda e: says(e[0], None), 504, LATE, "Good"),
    "silent before the end": Row(lambda e: says(*e[:2], None), 504, LATE, "Good morning"),
    "drips before text": Row(lambda e: drips(e[0], 0.01), 504, LATE),
    "drips after text": Row(
        lambda e: says(e[0], *drop_by_drop(e[1])), 504, OVER, "Good", headers=SOON
    ),
    # Breaks
    "reset before the head": Row(lambda e: resets, 502, LOST, again=True),
    "reset after the head": Row(lambda e: breaks(), 502, LOST, again=True),
    "closed after the head": Row(lambda e: breaks(reset=False), 502, LOST, again=True),
    "ends without an event": Row(lambda e: says(), 502, LOST, again=True),
    # Nonsense
    "not HTTP": Row(lambda e: writes(b"SSH-2.0-x\r\n"), 502, LOST, again=True),
    "half an event": Row(lambda e: says(e[0][:9]), 502, INVALID),
    "half an event after text": Row(lambda e: says(e[0], e[1][:-5]), 502, INVALID, "Good"),
    "a huge event": Row(lambda e: says(b"data: ", HUGE), 502, INVALID),
    "a huge event after text": Row(lambda e: says(e[0], b"data: ", HUGE), 502, INVALID, "Good"),
    "no JSON": Row(lambda e: says(e[0], b"data: hello\n\n"), 502, INVALID, "Good"),
    # Lengths
    "too short a length": Row(
        lambda e: answers(200, e[0] + e[1], length=len(e[0]) + 9), 502, INVALID, "Good"
    ),
    "too long a length": Row(lambda e: answers(200, e[0], length=9999), 502, LOST, "Good"),
    "more than was asked": Row(
        lambda e: writes(whole(e) + b"HTTP/1.1 200 OK\r\n"), 200, "ok", "Good morning."
    ),
    # Errors
    "200, an error as body": Row(lambda e: answers(200, b'{"error":"no memory"}'), 502, INVALID),
    "an error event": Row(lambda e: says(FAILED), 502, ERROR),
    "an error event after text": Row(lambda e: says(e[0], FAILED), 502, ERROR, "Good"),
    "500": Row(lambda e: answers(500, b"oops"), 502, ERROR),
    "500 without a length": Row(
        lambda e: writes(b"HTTP/1.0 500 X\r\n\r\noops", close=True), 502, ERROR
    ),
    "503": Row(lambda e: answers(503, b"stopping"), 503, DOWN, again=True, retry_after="1"),
    "429": Row(lambda e: answers(429, FULL), 503, BUSY, again=True, retry_after="1"),
    "429 that may be waited for": Row(
        lambda e: answers(429, b"", "Retry-After: 0"), 503, BUSY, again=True, retry_after="0"
    ),
    "429 that names too long a time": Row(
        lambda e: answers(429, b"", "Retry-After: 7"),
        *(503, BUSY),
        again=True,
        hits=1,
        headers=SOMETIME,
        retry_after="7",
    ),
    "a full queue in the stream": Row(
        lambda e: says(b"data: %s\n\n" % FULL), 503, BUSY, again=True, retry_after="1"
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("runtime", DIALECTS)
@pytest.mark.parametrize("case", MATRIX)
async def test_what_a_client_sees_of_a_pod_that_misbehaves(
    start: Start, case: str, runtime: str, stream: bool
) -> None:
    row = MATRIX[case]
    running = await start(row.faulty(DIALECTS[runtime]), entries=serving(runtime, STRICT))
    client = Client(running, stream)

    assert row.seen(stream=stream) == await client.post(**row.headers)
    assert row.tries == tries(running)
    assert len(row.tries) == running.upstreams[0].requests
    failed = sum(code.startswith("upstream") for code in row.tries)
    assert (row.tries.count("ok"), failed) == told(running)
    assert row.retry_after == client.headers.get("retry-after")
    assert at_rest(running)
    upstream = running.upstreams[0]
    await until(lambda: upstream.stopped == upstream.ids * told_to_stop(row, runtime))


def told_to_stop(row: Row, runtime: str) -> bool:
    return row.stops and runtime != "trtllm-serve"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("case", MATRIX)
async def test_what_a_client_sees_where_another_pod_is_fine(
    start: Start, case: str, stream: bool
) -> None:
    row, events = MATRIX[case], DIALECTS["triton-python"]
    running = await start(
        row.faulty(events), says(*events), entries=serving("triton-python", STRICT)
    )
    running.gateway.pods._turn = 1  # the faulty one is asked first
    seen = await Client(running, stream).post(**row.headers)

    if row.again:
        assert ("200 Good morning. [DONE]" if stream else "200 Good morning.") == seen
        assert ("ok", row.code) == tries(running)
    else:
        assert row.seen(stream=stream) == seen
    assert [1, int(row.again)] == [upstream.requests for upstream in running.upstreams]
    assert at_rest(running)


CUTS = [
    (runtime, k, part)
    for runtime, events in DIALECTS.items()
    for k in range(len(events) + 1)
    for part in (0, 1, 2)
]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("runtime", "k", "part"), CUTS)
async def test_a_cut_anywhere_is_told_and_never_looks_like_an_end(
    start: Start, runtime: str, k: int, part: int, stream: bool
) -> None:
    """After `k` events, or one or two thirds into the next one."""
    events = DIALECTS[runtime]
    inside = events[k][: part * len(events[k]) // 3] if k < len(events) else b""
    script = breaks(*events[:k], *([inside] if inside else []))
    running = await start(script, entries=serving(runtime, STRICT))
    seen = await Client(running, stream).post()
    text = "".join(WORDS[:k])

    assert (f"200 {text} {LOST}" if text and stream else f"502 {LOST}") == seen
    assert ((LOST,) if text else (LOST, LOST)) == tries(running)
    assert at_rest(running)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_refused_connections_are_tried_once_more(start: Start, stream: bool) -> None:
    running = await start(silent, entries=serving("triton-python", STRICT))
    await running.upstreams[0].stop()

    assert f"502 {LOST}" == await Client(running, stream).post()
    assert ((LOST, LOST), (0, 2)) == (tries(running), told(running))


@pytest.mark.parametrize("deleted", ["gone", "draining"])
async def test_a_pod_that_is_deleted_ends_the_streams_that_it_has(
    start: Start, deleted: str
) -> None:
    hold, events = asyncio.Event(), DIALECTS["triton-python"]

    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.chunk(events[0])
        await hold.wait()
        for event in events[1:]:
            await connection.chunk(event)
        await connection.end()

    running = await start(script, entries=serving("triton-python", relaxed()))
    client = Client(running, stream=True)
    task = asyncio.create_task(client.post())
    await until(lambda: running.upstreams[0].requests == 1)
    if deleted == "gone":
        running.gateway.pods.gone("chat", "pod-1")
    else:
        stamp = "2026-01-01T00:00:00Z"
        running.gateway.pods.put(pod("pod-1", "127.0.0.1", deletionTimestamp=stamp))
    late = await Client(running, stream=True).post()
    hold.set()

    assert "503 model_not_ready" == late
    assert "200 Good morning. [DONE]" == await task
    await until(lambda: not running.upstreams[0].open)


async def test_a_pod_that_dies_under_a_stream_is_an_error_in_it(start: Start) -> None:
    events = DIALECTS["triton-python"]
    running = await start(says(events[0], None), entries=serving("triton-python", relaxed()))
    task = asyncio.create_task(Client(running, stream=True).post())
    await until(lambda: running.upstreams[0].requests == 1)
    await until(
        lambda: any(r.timeline.first_text for r in running.gateway.inference.requests.values())
    )
    await running.upstreams[0].stop()

    assert f"200 Good {LOST}" == await task


# Clients that leave


@pytest.mark.parametrize("runtime", ["triton-python", "trtllm-serve"])
async def test_a_plain_answer_without_end_is_given_up(start: Start, runtime: str) -> None:
    word, piece = b"Good", b"Good" * 200_000
    first, *_ = DIALECTS[runtime]
    running = await start(
        says(*100 * [first.replace(word, piece)]), entries=serving(runtime, STRICT)
    )

    assert "502 upstream_overrun" == await Client(running, stream=False).post()
    assert at_rest(running)
