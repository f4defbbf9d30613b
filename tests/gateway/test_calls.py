"""Calls on model servers that refuse, die, stay silent or talk nonsense."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from headgate_api.snapshot import DeadlineBody
from headgate_gateway.calls.ask import Patience

from .conftest import ENSEMBLE, KEY, NAME, TENANT, Running, pod, policy, until
from .exchanges import Recorded
from .upstream import Connection, Script, saying

Start = Callable[..., Awaitable[Running]]


async def ask(running: Running, **more: Any) -> Recorded:
    """Ask without a network between the client and the gateway."""
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}]} | more
    exchange = Recorded("POST", "/v1/chat/completions", KEY, json.dumps(body).encode())
    await running.gateway.edge.handle(exchange)
    await asyncio.sleep(0)  # then it is told about
    return exchange


async def refusing(connection: Connection) -> None:
    connection.reset()


async def cut(connection: Connection) -> None:
    await connection.begin()
    await connection.event(text_output="Good", finish_reason="None")
    connection.reset()


def failing(status: int, body: bytes) -> Script:
    async def script(connection: Connection) -> None:
        await connection.answer(status, body)

    return script


def sending(*chunks: bytes) -> Script:
    async def script(connection: Connection) -> None:
        await connection.begin()
        for chunk in chunks:
            await connection.chunk(chunk)
        await connection.end()

    return script


async def silent(connection: Connection) -> None:
    await connection.begin()
    await connection.left()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_pod_that_resets_before_it_answers_is_replaced_by_another(
    start: Start, stream: bool
) -> None:
    running = await start(refusing, refusing)
    running.upstreams[1].script = saying("Hi")
    running.gateway.pods._turn = 1  # the first pod is asked first
    exchange = await ask(running, stream=stream)

    assert (200, "Hi") == (exchange.status, exchange.text)
    assert [1, 1] == [upstream.requests for upstream in running.upstreams]


async def test_a_pod_that_refuses_connections_is_replaced_by_another(start: Start) -> None:
    running = await start(saying("Hi"), saying("Hi"))
    await running.upstreams[0].stop()
    for _ in range(4):
        assert 200 == (await ask(running)).status


async def test_there_is_one_other_try_and_no_more(start: Start) -> None:
    running = await start(refusing, refusing, refusing)
    exchange = await ask(running)

    assert (502, "upstream_lost") == (exchange.status, exchange.code)
    assert 2 == sum(upstream.requests for upstream in running.upstreams)


async def test_the_only_pod_is_asked_anew_when_a_rested_connection_was_stale(start: Start) -> None:
    running = await start(saying("Hi"))
    await ask(running)
    upstream = running.upstreams[0]

    async def once(connection: Connection) -> None:
        upstream.script = saying("Hi again")
        connection.reset()

    upstream.script = once
    assert "Hi again" == (await ask(running)).text


async def test_a_stale_connection_does_not_cost_the_one_other_try(start: Start) -> None:
    running = await start(saying("Hi"), saying("Hi"))
    for _ in range(4):
        await ask(running)  # both pods have a connection that rests
    first, second = running.upstreams

    async def never(connection: Connection) -> None:
        connection.reset()

    first.script, second.script = never, never
    asked = first.requests + second.requests
    exchange = await ask(running)

    assert (502, "upstream_lost") == (exchange.status, exchange.code)
    assert 3 == first.requests + second.requests - asked


async def test_a_cut_after_the_first_byte_is_told_and_never_tried_again(start: Start) -> None:
    running = await start(cut, cut)
    exchange = await ask(running, stream=True)

    assert (200, "Good", "upstream_lost") == (exchange.status, exchange.text, exchange.code)
    assert not exchange.data.endswith(b"[DONE]\n\n")
    assert exchange.finished
    plain = await ask(running)
    assert (502, "upstream_lost") == (plain.status, plain.code)
    assert 2 == sum(upstream.requests for upstream in running.upstreams)


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_of_an_answer_that_broke_off_are_counted(start: Start, stream: bool) -> None:
    running = await start(cut)
    await ask(running, stream=stream)
    running.gateway.metrics.settle()
    tokens = running.gateway.metrics.tokens.items()
    told = json.loads(running.gateway.feedback.body())["cohorts"]

    assert 1 == sum(count.value for labels, count in tokens if labels[-1] == "output")
    assert [(0, 1)] == [(cohort["answered"], cohort["failed"]) for cohort in told]


FULL = b'{"error":"in ensemble, Exceeds maximum queue size"}'
EXPIRED = b'{"error":"Request timeout expired"}'
LONG = (
    b'{"error":"The sum of prompt length (101), query length (0) should not exceed '
    b'max_num_tokens (100)"}'
)
GRANTED = 64 * 32 + 8192
"""Characters of an answer, which has 64 tokens at most."""
OVERRUN = tuple(b'data: {"text_output": "%s"}\n\n' % (n * b"a") for n in (GRANTED, GRANTED + 1))
NO_ANSWERS: dict[str, tuple[Script, int, str]] = {
    "full queue": (failing(503, FULL), 503, "upstream_overloaded"),
    "full queue as 400": (failing(400, b"data: " + FULL), 503, "upstream_overloaded"),
    "full queue as event": (sending(b"data: " + FULL + b"\n\n"), 503, "upstream_overloaded"),
    "time in the queue": (failing(400, EXPIRED), 503, "upstream_overloaded"),
    "server stops": (failing(503, b'{"error":"stopping"}'), 503, "upstream_unavailable"),
    "long prompt": (failing(400, LONG), 400, "context_length_exceeded"),
    "long prompt as event": (sending(b"data: " + LONG + b"\n\n"), 400, "context_length_exceeded"),
    "dead stub": (failing(400, b'data: {"error":"Stub died"}'), 502, "upstream_error"),
    "unknown model": (failing(404, b'{"error":"unknown"}'), 502, "upstream_error"),
    "long error": (failing(500, 10_000 * b"x"), 502, "upstream_error"),
    "error with status 200": (failing(200, b'{"error":"exactly 1"}'), 502, "upstream_invalid"),
    "error event": (sending(b'data: {"error":"no memory"}\n\n'), 502, "upstream_error"),
    "no JSON": (sending(b"data: hello\n\n"), 502, "upstream_invalid"),
    "wrong type": (sending(b'data: {"text_output": 5}\n\n'), 502, "upstream_invalid"),
    "end inside an event": (sending(b'data: {"text_output": "a"'), 502, "upstream_invalid"),
    "endless event": (sending(b"data: " + 1_100_000 * b"x"), 502, "upstream_invalid"),
    "more than was granted": (sending(*OVERRUN), 502, "upstream_overrun"),
    "no reason": (sending(b'data: {"text_output": "Good"}\n\n'), 502, "upstream_lost"),
    "cancelled": (sending(b'data: {"finish_reason": "cancelled"}\n\n'), 502, "upstream_lost"),
    "nothing": (sending(), 502, "upstream_lost"),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
async def test_an_answer_that_is_none_becomes_an_error_with_a_reason(
    start: Start, case: str
) -> None:
    script, status, code = NO_ANSWERS[case]
    running = await start(script)
    exchange = await ask(running)

    assert (status, code) == (exchange.status, exchange.code)
    assert (status == 503) == (b"retry-after" in exchange.headers)
    assert b"Stub" not in exchange.data  # their words are for our log
    assert [0] == [pod.in_flight for pod in running.gateway.pods._by_name.values()]


async def test_a_model_server_that_heeds_no_limit_is_stopped(start: Start) -> None:
    async def script(connection: Connection) -> None:
        await connection.begin()
        for chunk in OVERRUN:
            await connection.chunk(chunk)
        await connection.left()

    running = await start(script)
    exchange = await ask(running, stream=True)

    assert (200, "upstream_overrun") == (exchange.status, exchange.code)
    assert GRANTED == len(exchange.text)
    await running.upstreams[0].cancelled.wait()


@pytest.mark.parametrize(
    ("words", "aside"), [(b'{"error":"Maximum queue size reached"}', False), (b"stopping", True)]
)
async def test_only_a_pod_that_fails_goes_behind_the_others(
    start: Start, words: bytes, aside: bool
) -> None:
    running = await start(failing(503, words))
    await ask(running)
    asked = next(iter(running.gateway.pods._by_name.values()))

    assert aside == (asyncio.get_running_loop().time() < asked.aside_until)


async def test_an_error_in_the_middle_of_a_stream_is_its_last_event(start: Start) -> None:
    running = await start(
        sending(
            b'data: {"text_output":"Good","finish_reason":"None"}\n\n',
            b'data: {"error":"out of memory"}\n\n',
        )
    )
    exchange = await ask(running, stream=True)

    assert (200, "Good", "upstream_error") == (exchange.status, exchange.text, exchange.code)


async def test_silence_before_the_first_token_times_out(start: Start) -> None:
    running = await start(silent, entries=policy(deadlines=DeadlineBody(first_segment=0.05)))
    exchange = await ask(running)

    assert (504, "upstream_timeout") == (exchange.status, exchange.code)
    await running.upstreams[0].cancelled.wait()


async def test_silence_between_tokens_ends_a_stream_with_an_error(start: Start) -> None:
    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.event(text_output="Good", finish_reason="None")
        await connection.left()

    running = await start(script, entries=policy(deadlines=DeadlineBody(idle_token=0.05)))
    exchange = await ask(running, stream=True)

    assert (200, "Good", "upstream_timeout") == (exchange.status, exchange.text, exchange.code)


async def test_a_stream_that_waits_gets_heartbeats(start: Start) -> None:
    enough = asyncio.Event()
    say = saying("Hi")

    async def script(connection: Connection) -> None:
        await enough.wait()
        await say(connection)

    running = await start(script, patience=Patience(beat=0.01))
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    exchange = Recorded("POST", "/v1/chat/completions", KEY, json.dumps(body).encode())
    task = asyncio.create_task(running.gateway.edge.handle(exchange))
    await until(lambda: exchange.data.count(b": waiting for the model\n\n") >= 2)
    enough.set()
    await task

    assert (200, "Hi") == (exchange.status, exchange.text)


async def test_a_client_that_leaves_cancels_and_counts_no_failure(start: Start) -> None:
    running = await start(silent)
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    exchange = Recorded("POST", "/v1/chat/completions", KEY, json.dumps(body).encode())
    task = asyncio.create_task(running.gateway.edge.handle(exchange))
    await until(lambda: running.upstreams[0].requests == 1)
    task.cancel()
    await running.upstreams[0].cancelled.wait()

    told = json.loads(running.gateway.feedback.body())["cohorts"]
    assert [(0, 0)] == [(cohort["answered"], cohort["failed"]) for cohort in told]


async def test_connections_are_kept_and_used_again(start: Start) -> None:
    running = await start(saying("Hi"))
    for _ in range(3):
        await ask(running)

    assert (3, 1) == (running.upstreams[0].requests, running.upstreams[0].connections)


async def test_a_pod_that_is_going_to_stop_gets_no_request_and_loses_its_idle_connections(
    start: Start,
) -> None:
    running = await start(saying("Hi"), saying("Hi"))
    for _ in range(2):
        await ask(running)
    first, second = running.upstreams
    running.gateway.pods.put(pod("pod-1", "127.0.0.1", deletionTimestamp="2026-01-01T00:00:00Z"))
    await until(lambda: not first.open)
    before = first.requests
    for _ in range(4):
        assert 200 == (await ask(running)).status

    assert before == first.requests
    assert second.open


async def test_a_busy_connection_of_a_stopping_pod_ends_after_its_answer(start: Start) -> None:
    hold = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.begin()
        await hold.wait()
        await connection.event(text_output="Hi", finish_reason="stop")
        await connection.end()

    running = await start(script)
    task = asyncio.create_task(ask(running))
    await until(lambda: running.upstreams[0].requests == 1)
    running.gateway.pods.gone("chat", "pod-1")
    hold.set()

    assert "Hi" == (await task).text
    await until(lambda: not running.upstreams[0].open)


async def test_load_is_spread_evenly(start: Start) -> None:
    running = await start(saying("Hi"), saying("Hi"), saying("Hi"))
    for _ in range(30):
        await ask(running)

    assert [10, 10, 10] == [upstream.requests for upstream in running.upstreams]


async def test_more_requests_than_allowed_are_refused_at_once(start: Start) -> None:
    running = await start(silent, most=1)
    task = asyncio.create_task(ask(running))
    await until(lambda: len(running.gateway.inference.calls) == 1)
    exchange = await ask(running)

    assert (503, "gateway_overloaded") == (exchange.status, exchange.code)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_text_cut_inside_a_character_arrives_whole(start: Start) -> None:
    event = 'data: {"text_output":"Grüße 🚢"}\n\n'.encode()
    pieces: Sequence[bytes] = [event[i : i + 1] for i in range(len(event))]
    running = await start(sending(*pieces), entries=(ENSEMBLE, TENANT))

    assert "Grüße 🚢" == (await ask(running, stream=True)).text


async def test_a_character_that_takes_several_tokens_is_held_until_it_is_whole(
    start: Start,
) -> None:
    running = await start(saying("a", "\ufffd", finish="None"))

    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.event(text_output="a", finish_reason="None")
        await connection.event(text_output="a\ufffd", finish_reason="None")
        await connection.event(text_output="aü", finish_reason="stop")
        await connection.end()

    running.upstreams[0].script = script
    assert "aü" == (await ask(running, stream=True)).text


async def test_trace_headers_reach_the_model_server_and_nothing_else_does(start: Start) -> None:
    heads: list[str] = []
    say = saying("Hi")

    async def script(connection: Connection) -> None:
        heads.append(connection.head.lower())
        await say(connection)

    running = await start(script)
    body = json.dumps({"model": NAME, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    headers = {
        b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"cookie": b"secret",
    }
    exchange = Recorded("POST", "/v1/chat/completions", KEY, body, headers)
    await running.gateway.edge.handle(exchange)

    assert "traceparent: 00-0af7651916cd43dd8448eb211c80319c-" in heads[0]
    assert "cookie" not in heads[0]
    assert KEY not in heads[0]
