"""Streams through a RoutingPolicy: what a client reads, and how it ends, whatever comes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from headgate_api.snapshot import Entry, RetryBody, RouteBody, RouteRule, StreamingBody, Target
from headgate_gateway.calls.ask import Patience
from headgate_gateway.gateway import DRAINING
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.streaming.segmented import TURN

from .clients import relaxed, serving
from .conftest import KEY, NAME, Running, until
from .faulty import breaks, says, sse
from .streams import Pieces, Seen
from .upstream import Connection, Script

Start = Callable[..., Awaitable[Running]]


def entries(
    runtime: str = "triton-python", rules: dict[str, Any] | None = None, **how: Any
) -> tuple[Entry, ...]:
    """A model behind a policy that says how to stream."""
    rule = RouteRule(name="all", targets=(Target(model="llama"),), streaming=StreamingBody(**how))
    body = RouteBody(**{"models": (NAME,), "routes": (rule,)} | (rules or {}))
    return serving(runtime, body)


def request(path: str = "/v1/chat/completions", **more: Any) -> Pieces:
    body: dict[str, Any] = {"model": NAME, "stream": True}
    if path.endswith("chat/completions"):
        body["messages"] = [{"role": "user", "content": "Hello"}]
    else:
        body["prompt"] = "Hello"
    return Pieces("POST", path, KEY, json.dumps(body | more).encode())


async def ask(running: Running, exchange: Pieces | None = None, **more: Any) -> Seen:
    exchange = exchange or request(**more)
    await running.gateway.edge.handle(exchange)
    await asyncio.sleep(0)  # then it is told about
    return Seen(exchange)


def word(text: str) -> bytes:
    return sse({"text_output": text, "num_input_tokens": 7, "num_output_tokens": 3})


def raw(text: str) -> bytes:
    """The same, and nothing in it escaped."""
    return b"data: %s\n\n" % json.dumps({"text_output": text}, ensure_ascii=False).encode()


def counted(running: Running, family: str) -> dict[str, int]:
    """A stream metric's counts, by its last label."""
    found = getattr(running.gateway.metrics.streams, family)
    return {labels[-1]: count.value for labels, count in found.items()}


# What misbehaves

FULL = "word " * 80  # a segment of the default size
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


def openai(*deltas: dict[str, Any], reason: str = "tool_calls") -> list[bytes]:
    chunks = [
        sse({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas
    ]
    last = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    return [*chunks, last, b"data: [DONE]\n\n"]


def calling(*, arguments: Sequence[str]) -> list[dict[str, Any]]:
    begin = {"index": 0, "id": "c1", "function": {"name": "clock", "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": part}} for part in arguments]
    return [{"tool_calls": [part]} for part in (begin, *parts)]


@dataclass(frozen=True)
class Row:
    """A model server's way of answering, and what a client reads."""

    script: Script
    texts: list[str]
    thoughts: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    finish: str = "stop"
    runtime: str = "triton-python"


def byte_by_byte(body: bytes) -> Script:
    return says(*[body[i : i + 1] for i in range(len(body))])


FENCED = ["Run this:\n", "```sh\n", "make all. # Now.\n", "```\n", "Done."]
WIDE = ["Grüße aus Köln! ", "これは文です。", "それも。"]
ROWS = {
    "one byte at a time": Row(byte_by_byte(word("It is. It was.")), ["It is. ", "It was."]),
    "splits UTF-8": Row(byte_by_byte(raw("".join(WIDE))), WIDE),
    "splits code fences": Row(says(*[word(c) for c in "".join(FENCED)]), FENCED),
    "never ends a sentence": Row(says(*[word("word ")] * 500), [FULL] * 6 + ["word " * 20]),
    "sends a megabyte at once": Row(says(word(FULL * 2500)), [FULL] * 2500),
    "calls a tool in a sentence": Row(
        says(*openai({"content": "I look "}, {"content": "at"}, *calling(arguments=("{", "}")))),
        ["I look at"],
        calls=["clock"],
        finish="tool_calls",
        runtime="trtllm-serve",
    ),
    "thinks in between": Row(
        says(
            *openai(
                *[{"reasoning_content": t} for t in ("Hm", ". Let", " me see")],
                *[{"content": t} for t in ("It", " is", ".")],
                reason="stop",
            )
        ),
        ["It is."],
        thoughts=["Hm. ", "Let me see"],
        runtime="trtllm-serve",
    ),
}


@pytest.mark.parametrize("case", ROWS)
async def test_what_a_client_reads_of_a_model_that_misbehaves(start: Start, case: str) -> None:
    row = ROWS[case]
    running = await start(row.script, entries=entries(row.runtime, max_hold=10.0))
    more = {"tools": [CLOCK]} if row.calls else {}
    seen = await ask(running, max_tokens=100_000, **more)

    assert row.texts == seen.texts
    assert (row.thoughts, row.calls) == (seen.thoughts, seen.calls)
    assert (200, row.finish, True, None) == (
        seen.exchange.status,
        seen.finish,
        seen.done,
        seen.stopped,
    )
    assert {"complete": 1} == counted(running, "ended")


async def test_each_segment_is_one_write_and_the_first_brings_the_role(start: Start) -> None:
    running = await start(says(word("One. Two. "), word("Three")), entries=entries())
    seen = await ask(running)

    told = [piece.count(b"data: ") for piece in seen.exchange.pieces]
    assert [2, 1, 1, 2] == told  # the role with the first one; the end with [DONE]
    assert ["One. ", "Two. ", "Three"] == seen.texts


async def test_others_have_their_turns_while_a_long_text_is_given(start: Start) -> None:
    running = await start(says(word("One is. " * 5000)), entries=entries())
    exchange, given = request(max_tokens=5000), [0]

    async def watch() -> None:
        while True:
            given.append(len(exchange.pieces))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    seen = await ask(running, exchange)
    watching.cancel()

    assert 5000 == len(seen.texts)
    assert TURN >= max(after - before for before, after in pairwise(given))


async def test_a_model_server_that_heeds_no_limit_is_stopped_and_its_stream_ends_well(
    start: Start,
) -> None:
    running = await start(hanging(*[word("One is. ")] * 1281), entries=entries())
    seen = await ask(running)

    assert 8192 + 64 * 32 == 8 * 1280 == sum(map(len, seen.texts[:-1]))
    assert ("length", "upstream_overrun", True) == (seen.finish, seen.stopped, seen.done)
    await running.upstreams[0].cancelled.wait()


async def test_completions_come_in_segments_too(start: Start) -> None:
    running = await start(says(word("One. Two. "), word("Three")), entries=entries())

    assert ["One. ", "Two. ", "Three"] == (await ask(running, path="/v1/completions")).texts


async def test_an_empty_answer_is_still_an_answer(start: Start) -> None:
    running = await start(says(word("")), entries=entries())
    seen = await ask(running)

    assert ([], "stop", True) == (seen.texts, seen.finish, seen.done)
    assert {} == counted(running, "segments")


async def test_a_model_that_no_policy_claims_is_passed_on_as_it_comes(start: Start) -> None:
    running = await start(
        says(word("One. Tw"), word("o.")), entries=serving("triton-python", relaxed())
    )
    seen = await ask(running)

    assert "One. Two." == "".join(seen.texts)
    assert seen.done
    assert {} == counted(running, "ended")


# Time


def hanging(*events: bytes) -> Script:
    return says(*events, None)


async def stream(running: Running, exchange: Pieces) -> "asyncio.Task[None]":
    task: asyncio.Task[None] = asyncio.create_task(running.gateway.edge.handle(exchange))
    return task


async def test_what_is_held_goes_once_it_was_held_for_as_long_as_the_route_says(
    start: Start,
) -> None:
    running = await start(hanging(word("Let us s"), word("ee")), entries=entries(max_hold=0.05))
    exchange = request()
    task = await stream(running, exchange)
    await until(lambda: "Let us see" == exchange.text)
    task.cancel()
    await running.upstreams[0].cancelled.wait()


async def test_a_sentence_goes_although_nothing_follows_it(start: Start) -> None:
    running = await start(hanging(word("It is."), word("")), entries=entries(max_hold=10.0))
    exchange = request()
    task = await stream(running, exchange)
    await until(lambda: "It is." == exchange.text)
    task.cancel()
    await running.upstreams[0].cancelled.wait()
    await asyncio.sleep(0)

    assert {"sentence": 1} == counted(running, "segments")
    assert {"left": 1} == counted(running, "ended")
    assert {"1": 1} == counted(running, "aborts")


async def test_a_client_that_waits_gets_signs_of_life_that_say_what_for(start: Start) -> None:
    running = await start(hanging(), entries=entries(heartbeat=0.01), patience=Patience(beat=60.0))
    exchange = request()
    task = await stream(running, exchange)
    await until(lambda: exchange.data.count(b": waiting for the model\n\n") >= 2)
    task.cancel()
    await running.upstreams[0].cancelled.wait()
    await asyncio.sleep(0)

    assert b"data:" not in exchange.data
    assert {"0": 1} == counted(running, "aborts")


# Stops


STOP = Refusal(Code.CONTENT_FILTER, 400, "This is not for you.")


async def stopped(
    start: Start, text: str, refusal: Refusal = DRAINING, how: str = "", **more: Any
) -> Seen:
    """A stream that says this and goes on for ever, until it is stopped."""
    path = f"/v1/{how or 'chat/completions'}"
    running = await start(hanging(word(text)), entries=entries(max_hold=10.0))
    exchange = request(path, stream_options={"include_usage": True}, **more)
    task = await stream(running, exchange)
    await until(lambda: bool(running.upstreams[0].requests) and spoken(running))
    running.gateway.inference.stop(refusal)
    await task
    await asyncio.sleep(0)
    assert {"stopped": 1} == counted(running, "ended")
    return Seen(exchange)


def spoken(running: Running) -> bool:
    return any(r.timeline.first_text for r in running.gateway.inference.requests.values())


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("It is so. It is a mat", ["It is so. ", "It is a ", "…"]),
        ("It is so. It is.", ["It is so. ", "It is.", " …"]),
        ("It is so. Antidis", ["It is so. ", "…"]),
        ("So:\n```sh\nrm -rf /", ["So:\n", "```sh\n", "```\n…"]),
    ],
)
async def test_a_stop_lands_on_a_safe_boundary(start: Start, text: str, texts: list[str]) -> None:
    seen = await stopped(start, text)

    assert texts == seen.texts
    assert ("length", "gateway_draining", True, None) == (
        seen.finish,
        seen.stopped,
        seen.done,
        seen.error,
    )
    assert {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10} == seen.usage


async def test_a_stop_by_a_filter_says_so(start: Start) -> None:
    seen = await stopped(start, "It is so. It is a mat", STOP)

    assert ("content_filter", "content_filter") == (seen.finish, seen.stopped)


@pytest.mark.parametrize(
    ("text", "withheld"), [("It is so. It is a mat", {"content_filter": 1}), ("It is so.", {})]
)
async def test_text_that_a_filter_keeps_back_is_counted(
    start: Start, text: str, withheld: dict[str, int]
) -> None:
    running = await start(hanging(word(text)), entries=entries(max_hold=10.0))
    task = await stream(running, request())
    await until(lambda: spoken(running))
    running.gateway.inference.stop(STOP)
    await task
    await asyncio.sleep(0)

    assert withheld == counted(running, "withheld")


@pytest.mark.parametrize(
    ("how", "more"),
    [
        ("completions", {}),
        ("chat/completions", {"response_format": {"type": "json_object"}}),
    ],
)
async def test_a_stop_adds_nothing_to_what_programs_read(
    start: Start, how: str, more: dict[str, Any]
) -> None:
    seen = await stopped(start, 'It is so. {"a": 1', how=how, **more)

    assert ["It is so. ", '{"a": '] == seen.texts
    assert ("length", True) == (seen.finish, seen.done)


async def test_a_stop_before_anything_was_given_is_a_refusal(start: Start) -> None:
    running = await start(hanging(word("It is")), entries=entries(max_hold=10.0))
    exchange = request()
    task = await stream(running, exchange)
    await until(lambda: spoken(running))
    running.gateway.inference.stop(DRAINING)
    await task

    assert (503, "gateway_draining") == (exchange.status, exchange.code)
    assert b"x-headgate-reason" in exchange.headers


async def test_a_stop_after_nothing_but_signs_of_life_is_an_error(start: Start) -> None:
    running = await start(hanging(), entries=entries(heartbeat=0.01))
    exchange = request()
    task = await stream(running, exchange)
    await until(lambda: b": waiting" in exchange.data)
    running.gateway.inference.stop(DRAINING)
    await task
    seen = Seen(exchange)

    assert (200, "gateway_draining", False) == (exchange.status, exchange.code, seen.done)
    assert seen.error is not None
    assert "partial_output" not in seen.error


async def test_a_drain_ends_streams_well(start: Start) -> None:
    running = await start(hanging(word("It is so. It is a mat")), entries=entries(max_hold=10.0))
    exchange = request()
    task = await stream(running, exchange)
    await until(lambda: spoken(running))
    running.gateway.inference.stop(DRAINING)
    await task
    requests = running.gateway.metrics.requests
    await asyncio.sleep(0)

    assert 1 == requests.of("200", "gateway_draining").value


# Breaks


async def test_a_stream_that_breaks_is_an_error_that_says_what_one_has(start: Start) -> None:
    script = breaks(word("It is so. It is a mat"))
    running = await start(script, entries=entries(max_hold=10.0))
    seen = await ask(running)

    assert ["It is so. ", "It is a "] == seen.texts
    assert seen.error is not None
    assert ("upstream_lost", True) == (seen.error["code"], seen.error["partial_output"])
    assert (200, False, None) == (seen.exchange.status, seen.done, seen.finish)
    assert {"broken": 1} == counted(running, "ended")
    assert {"upstream_lost": 1} == counted(running, "withheld")


async def test_a_model_that_repeats_itself_for_ever_is_stopped_behind_a_sentence(
    start: Start,
) -> None:
    async def script(connection: Connection) -> None:
        await connection.begin()
        while True:
            await connection.chunk(word("All is well. "))

    running = await start(script, entries=entries())
    exchange = request(max_tokens=1_000_000)
    task = await stream(running, exchange)
    await until(lambda: len(exchange.pieces) > 100)
    running.gateway.inference.stop(DRAINING)
    await task
    seen = Seen(exchange)

    assert ({"All is well. "}, "…") == (set(seen.texts[:-1]), seen.texts[-1])
    assert ("length", True) == (seen.finish, seen.done)


async def test_an_openai_server_cannot_go_on_where_another_was_lost(start: Start) -> None:
    script = breaks(openai({"content": "Good. Mor"})[0])
    how = {"on_upstream_loss": "Continue"}
    running = await start(script, script, entries=entries("trtllm-serve", **how))
    seen = await ask(running)

    assert seen.error is not None
    assert (["Good. "], "upstream_lost") == (seen.texts, seen.error["code"])


async def test_an_openai_server_goes_on_with_a_text(start: Start) -> None:
    def said(text: str, reason: str | None = None) -> bytes:
        return sse({"choices": [{"index": 0, "text": text, "finish_reason": reason}]})

    async def script(connection: Connection) -> None:
        asked.append(connection.fields)
        if len(asked) == 1:
            await breaks(said("Good. "), said("Mor"))(connection)
        else:
            await says(said("ning.", "stop"), b"data: [DONE]\n\n")(connection)

    asked: list[dict[str, Any]] = []
    rules = entries("trtllm-serve", on_upstream_loss="Continue", max_hold=10.0)
    running = await start(script, script, entries=rules)
    seen = await ask(running, path="/v1/completions", max_tokens=20, top_p=0.5)

    assert (["Good. ", "Morning."], "stop", True) == (seen.texts, seen.finish, seen.done)
    assert ["Hello", "HelloGood. Mor"] == [fields["prompt"] for fields in asked]
    assert [(20, 0.5), (18, 0.5)] == [(one["max_tokens"], one["top_p"]) for one in asked]


# Held to the end


async def test_a_route_may_hold_streams_to_their_end(start: Start) -> None:
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.chunk(word("One. Two. "))
        await go_on.wait()
        await connection.chunk(word("Three"))
        await connection.end()

    running = await start(script, entries=entries(mode="Buffered", heartbeat=0.01))
    exchange = request(stream_options={"include_usage": True})
    task = await stream(running, exchange)
    await until(lambda: exchange.data.count(b": waiting") >= 2)
    assert [] == exchange.events
    go_on.set()
    await task
    seen = Seen(exchange)

    assert ["One. ", "Two. ", "Three"] == seen.texts
    assert ("stop", True, 3) == (seen.finish, seen.done, (seen.usage or {})["completion_tokens"])


async def test_what_is_held_to_its_end_may_be_tried_again(start: Start) -> None:
    tries: list[int] = []

    async def script(connection: Connection) -> None:
        tries.append(1)
        await connection.begin()
        await connection.chunk(word("One. "))
        if len(tries) == 1:
            await asyncio.sleep(0.01)
            connection.reset()
            return
        await connection.end()

    rules = {"retries": RetryBody(backoff_base=0.001, backoff_max=0.001)}
    running = await start(script, entries=entries(rules=rules, mode="Buffered"))
    seen = await ask(running)

    assert (["One. "], True, 2) == (seen.texts, seen.done, len(tries))


async def test_json_that_is_held_to_its_end_is_checked_before_any_of_it_is_given(
    start: Start,
) -> None:
    running = await start(says(word("{not JSON")), entries=entries(mode="Buffered"))
    exchange = request(response_format={"type": "json_object"})
    await ask(running, exchange)

    assert (502, "invalid_output") == (exchange.status, exchange.code)


# What is seen of streams


@pytest.mark.parametrize(
    ("text", "signals"),
    [
        ("It is 4. It is. ", {}),
        ("Yes, it is. So. ", {"confident_start": 1}),
        (
            "Yes, it is. Actually, no. ",
            {"confident_start": 1, "retraction": 1, "confidence_mismatch": 1},
        ),
        ("It is 4. Correction: it is 5. ", {"retraction": 1}),
    ],
)
async def test_streams_that_take_back_what_they_said_are_counted(
    start: Start, text: str, signals: dict[str, int]
) -> None:
    running = await start(says(word(text)), entries=entries())
    await ask(running)

    assert signals == counted(running, "signals")


async def test_a_confident_start_that_was_stopped_is_a_mismatch(start: Start) -> None:
    running = await start(hanging(word("Yes, it is. It is a")), entries=entries(max_hold=10.0))
    task = await stream(running, exchange := request())
    await until(lambda: exchange.text != "")
    running.gateway.inference.stop(DRAINING)
    await task
    await asyncio.sleep(0)

    assert {"confident_start": 1, "confidence_mismatch": 1} == counted(running, "signals")


async def test_segments_are_timed_and_their_causes_counted(start: Start) -> None:
    running = await start(says(word("One. Two:\n"), word("```\nx\n```\nEnd")), entries=entries())
    await ask(running)
    streams = running.gateway.metrics.streams

    assert {"sentence": 1, "line": 1, "fence": 3, "end": 1} == counted(running, "segments")
    assert [1] == [sum(spread.counts) for _, spread in streams.first_seconds.items()]
    assert [5] == [sum(spread.counts) for _, spread in streams.gap_seconds.items()]
