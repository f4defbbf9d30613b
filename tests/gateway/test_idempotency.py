"""Requests with an Idempotency-Key, through a whole gateway: one charge for each key."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from structlog.testing import capture_logs

from headgate_api.errors import TerminalError, Unavailable
from headgate_api.labels import COHORT
from headgate_api.snapshot import TenantBody
from headgate_cluster.processes import Server
from headgate_gateway.edge.exchange import Head
from headgate_gateway.idempotency.choose import chosen_store
from headgate_gateway.idempotency.keyed import digest
from headgate_gateway.idempotency.sqlite import SqliteStore
from headgate_gateway.idempotency.store import LEASE, Claim, Found, Store
from headgate_gateway.idempotency.valkey import ValkeyStore
from headgate_gateway.settings import Settings, read_settings

from .conftest import (
    KEY,
    MODEL,
    NAME,
    TENANT,
    Running,
    api_key,
    cohort,
    entry,
    model,
    pod,
    until,
)
from .exchanges import Recorded
from .test_http import STREAM, dial, post, read_answer
from .upstream import Connection, Script, saying
from .valkey import valkey

Start = Callable[..., Awaitable[Running]]
NUMBERS = count()
OTHER_KEY = "hg_test-key-of-tenant-other-9876543210"
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def keys(tmp_path: Path) -> Store:
    """Closed by its gateway."""
    return SqliteStore(tmp_path / "keys.db", most_bytes=2**26)


def exchange(key: str | bytes = "order-7", api: str = KEY, **more: Any) -> Recorded:
    body = {"model": NAME, "messages": HELLO} | more
    headers = {b"idempotency-key": key if isinstance(key, bytes) else key.encode()}
    made = Recorded("POST", "/v1/chat/completions", api, json.dumps(body).encode(), headers)
    made.id = f"test-{next(NUMBERS)}"
    return made


async def ask(running: Running, key: str | bytes = "order-7", **more: Any) -> Recorded:
    made = exchange(key, **more)
    await running.gateway.edge.handle(made)
    return made


def requests(running: Running) -> int:
    return sum(upstream.requests for upstream in running.upstreams)


class Slow:
    """A model server that says one word, and the others when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.asked = asyncio.Event()

    async def __call__(self, connection: Connection) -> None:
        self.asked.set()
        await connection.begin()
        await connection.event(text_output="Good", finish_reason="None")
        await self.go_on.wait()
        await connection.event(text_output="Good bye", finish_reason="stop")
        await connection.end()


# What a repeated request gets


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeated_request_gets_the_same_answer_and_the_model_is_asked_once(
    start: Start, keys: Store, stream: bool
) -> None:
    running = await start(saying("Good", " morning"), keys=keys)
    options = {"stream_options": {"include_usage": True}} if stream else {}
    first, second = [await ask(running, stream=stream, **options) for _ in range(2)]

    assert (200, "Good morning") == (second.status, second.text)
    assert first.data == second.data
    assert first.length == second.length, "a stream streams again"
    assert b"true" == second.headers[b"idempotency-replayed"]
    assert b"idempotency-replayed" not in first.headers
    assert 1 == requests(running)


async def test_a_replay_says_what_answered_then_and_has_an_id_of_its_own(
    start: Start, keys: Store
) -> None:
    running = await start(saying("Hi"), keys=keys)
    first, second = [await ask(running) for _ in range(2)]

    own = {b"x-request-id", b"server-timing", b"x-headgate-stage", b"idempotency-replayed"}
    told = [
        {name: value for name, value in one.headers.items() if name not in own}
        for one in (first, second)
    ]
    assert told[0] == told[1]
    assert b"bf16" == second.headers[b"x-headgate-variant"]
    assert b"idempotency" == second.headers[b"x-headgate-stage"]
    assert second.id.encode() == second.headers[b"x-request-id"]


async def test_another_body_is_refused(start: Start, keys: Store) -> None:
    running = await start(saying("Hi"), keys=keys)
    await ask(running)
    other = await ask(running, temperature=1)

    assert (422, "idempotency_key_reused") == (other.status, other.code)
    assert 1 == requests(running)


async def test_while_the_first_is_in_work_others_are_told_when_to_come_back(
    start: Start, keys: Store
) -> None:
    slow = Slow()
    running = await start(slow, keys=keys)
    first = asyncio.create_task(ask(running, stream=True))
    await slow.asked.wait()
    second = await ask(running, stream=True)

    assert (409, "idempotency_key_in_use") == (second.status, second.code)
    assert (b"1", b"250") == (second.headers[b"retry-after"], second.headers[b"retry-after-ms"])
    slow.go_on.set()
    assert (await first).data == (await ask(running, stream=True)).data
    assert 1 == requests(running)


async def test_a_hundred_equal_requests_at_once_are_one_for_the_model(
    start: Start, keys: Store
) -> None:
    slow = Slow()
    running = await start(slow, keys=keys, most=200)
    tasks = [asyncio.create_task(ask(running)) for _ in range(100)]
    await until(lambda: sum(task.done() for task in tasks) == 99)
    slow.go_on.set()
    answers = [await task for task in tasks]

    assert [200] + [409] * 99 == sorted(answer.status for answer in answers)
    assert 1 == requests(running)


async def test_keys_of_two_tenants_are_two(start: Start, keys: Store) -> None:
    other = entry("TenantQuota", "other", TenantBody(tenant="other", keys=(api_key(OTHER_KEY),)))
    running = await start(saying("Hi"), entries=(MODEL, TENANT, other), keys=keys)
    await ask(running)
    answer = await ask(running, api=OTHER_KEY)

    assert b"idempotency-replayed" not in answer.headers
    assert 2 == requests(running)


async def test_every_endpoint_has_keys_of_its_own(start: Start, keys: Store) -> None:
    running = await start(saying("Good", " morning"), keys=keys)
    first, second = [await ask_completion(running) for _ in range(2)]
    assert (200, first.data) == (second.status, second.data)
    assert b"true" == second.headers[b"idempotency-replayed"]

    assert b"idempotency-replayed" not in (await ask(running)).headers
    assert 2 == requests(running)


async def ask_completion(running: Running) -> Recorded:
    made = exchange()
    made.head = Head("POST", "/v1/completions", made.head.headers)
    made.body = json.dumps({"model": NAME, "prompt": "Hello"}).encode()
    await running.gateway.edge.handle(made)
    return made


def test_the_parts_of_a_name_do_not_run_together() -> None:
    names = {
        digest(*parts)
        for parts in [
            ("chat/acme", "/v1/embeddings", b"a"),
            ("chat/acme", "/v1/completions", b"a"),
            ("chat/other", "/v1/completions", b"a"),
            ("chat/other", "/v1/completions", b"b"),
        ]
    }
    assert 4 == len(names)


@pytest.mark.parametrize("key", ["", "x" * 256, b"\xc3\xa4", "a\tb"])
async def test_what_is_no_key_is_refused(start: Start, keys: Store, key: str | bytes) -> None:
    running = await start(saying("Hi"), keys=keys)
    answer = await ask(running, key)

    assert (400, "invalid_idempotency_key") == (answer.status, answer.code)
    assert 0 == requests(running)


@pytest.mark.parametrize("key", ["x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "a, b"])
async def test_a_key_may_be_any_255_printable_characters(
    start: Start, keys: Store, key: str
) -> None:
    running = await start(saying("Hi"), keys=keys)

    assert [200, 200] == [(await ask(running, key)).status for _ in range(2)]
    assert 1 == requests(running)


async def test_no_stage_ends_before_it_begins(start: Start) -> None:
    running = await start(saying("Hi"))
    for answer in [await ask(running) for _ in range(20)]:
        timing = answer.headers[b"server-timing"].decode()
        names = [part.partition(";")[0] for part in timing.split(", ")]
        assert ["identity", "parse", "idempotency", "call"] == names
        assert "-" not in timing


async def test_without_a_store_a_key_is_refused_and_not_ignored(start: Start) -> None:
    running = await start(saying("Hi"))
    answer = await ask(running)

    assert (400, "idempotency_off") == (answer.status, answer.code)
    assert 0 == requests(running)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("redis://127.0.0.1", True),
        ("valkeys://user:secret@host:6379/0", True),
        ("", False),
        ("http://secret@host", False),
        ("host:6379", False),
    ],
)
def test_a_server_needs_a_url_which_is_never_told(
    monkeypatch: pytest.MonkeyPatch, url: str, good: bool
) -> None:
    prefix = "HEADGATE_GATEWAY_"
    given = {"NAMESPACE": "x", "REGION": "x", "IDEMPOTENCY_STORE": "valkey", "IDEMPOTENCY_URL": url}
    for name, value in given.items():
        monkeypatch.setenv(prefix + name, value)
    if good:
        assert isinstance(chosen_store(settings := read_settings()), ValkeyStore)
        assert "secret" not in repr(settings)
    else:
        with pytest.raises(TerminalError, match=r"IDEMPOTENCY_URL.* needs the server's URL") as no:
            read_settings()
        assert "secret" not in str(no.value)


async def test_a_file_in_a_folder_is_the_embedded_store(tmp_path: Path) -> None:
    settings = Settings(
        namespace="x", region="x", idempotency_store="embedded", idempotency_dir=tmp_path / "keys"
    )
    store = chosen_store(settings)
    assert isinstance(store, SqliteStore)
    await store.close()
    assert ["keys.db"] == [path.name for path in (tmp_path / "keys").iterdir()]


# What is kept, and what is not


async def broken(connection: Connection) -> None:
    await connection.begin()
    await connection.event(text_output="Good", finish_reason="None")
    connection.reset()


async def test_a_stream_that_ended_in_an_error_was_charged_and_is_replayed(
    start: Start, keys: Store
) -> None:
    running = await start(broken, keys=keys)
    first, second = [await ask(running, stream=True) for _ in range(2)]

    assert (200, "Good", "upstream_lost") == (second.status, second.text, second.code)
    assert first.data == second.data
    assert 1 == requests(running)


async def test_what_is_refused_before_its_first_byte_may_be_tried_again(
    start: Start, keys: Store
) -> None:
    async def failing(connection: Connection) -> None:
        await connection.answer(500, b'{"error": "no"}')

    running = await start(failing, keys=keys)
    first = await ask(running, stream=True)
    running.upstreams[0].script = saying("Hi")
    second = await ask(running, stream=True)

    assert 502 == first.status
    assert (200, "Hi") == (second.status, second.text)
    assert b"idempotency-replayed" not in second.headers


async def test_what_the_policy_refuses_may_be_tried_again(start: Start, keys: Store) -> None:
    running = await start(entries=(TENANT,), keys=keys)
    assert 404 == (await ask(running)).status
    await running.take(MODEL, TENANT)

    assert 503 == (await ask(running)).status


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_too_large_is_gone_but_is_not_given_twice(
    start: Start, keys: Store, stream: bool
) -> None:
    running = await start(saying("x" * 3000), keys=keys, answer_bytes=2048)
    first, second = [await ask(running, stream=stream) for _ in range(2)]

    assert (200, "x" * 3000) == (first.status, first.text)
    assert (410, "idempotent_answer_not_kept") == (second.status, second.code)
    assert 1 == requests(running)
    assert 0 == running.gateway.idempotency._room.used


async def test_answers_in_work_have_a_bound_in_all(start: Start, keys: Store) -> None:
    slow = Slow()
    running = await start(slow, keys=keys)
    running.gateway.idempotency._room.all = 400
    tasks = [asyncio.create_task(ask(running, key, stream=True)) for key in ("a", "b")]
    await until(lambda: requests(running) == 2)
    slow.go_on.set()
    assert ["Good bye"] * 2 == [(await task).text for task in tasks]

    assert 410 in [(await ask(running, key, stream=True)).status for key in ("a", "b")]
    assert 0 == running.gateway.idempotency._room.used


async def test_a_bug_in_the_middle_of_a_stream_ends_it_the_same_way_again(
    start: Start, keys: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(saying("Good", " morning"), keys=keys)
    sent = Recorded.send

    async def send(self: Recorded, data: bytes) -> None:
        await sent(self, data)
        if b"idempotency-replayed" not in self.headers:
            raise ZeroDivisionError

    monkeypatch.setattr(Recorded, "send", send)
    with capture_logs():
        first = await ask(running, stream=True)
    second = await ask(running, stream=True)

    assert ["internal_error"] * 2 == [first.code, second.code]
    assert first.text == second.text != ""
    assert 1 == requests(running)


async def test_a_bug_before_the_first_byte_lets_go_of_the_key(
    start: Start, keys: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(saying("Hi"), keys=keys)
    backends = running.gateway.inference.ground.backends
    with monkeypatch.context() as patch, capture_logs():
        patch.setattr(backends, "clock", lambda: 1 / 0)
        assert 500 == (await ask(running)).status

    assert 0 == running.gateway.idempotency.held
    assert (200, "Hi") == ((again := await ask(running)).status, again.text)


# When the store does not answer


class Dead:
    file_bytes = 0

    async def claim(self, claim: Claim) -> Found:
        raise Unavailable("dead")

    async def close(self) -> None:
        pass


async def test_without_its_store_a_key_is_not_run_and_everybody_else_is_served(
    start: Start,
) -> None:
    running = await start(saying("Hi"), keys=Dead())
    answer = await ask(running)

    assert (503, "idempotency_unavailable") == (answer.status, answer.code)
    assert b"2" == answer.headers[b"retry-after"]
    assert 0 == requests(running)
    unkeyed = exchange()
    del unkeyed.head.headers[b"idempotency-key"]  # type: ignore[attr-defined]
    await running.gateway.edge.handle(unkeyed)
    assert 200 == unkeyed.status


async def test_every_end_is_counted(start: Start, keys: Store) -> None:
    running = await start(saying("Hi"), keys=keys)
    await ask(running)
    await ask(running)
    await ask(running, temperature=1)
    await ask(running, "")
    metrics = running.gateway.metrics

    found = {labels: series.value for labels, series in metrics.idempotency_requests.items()}
    assert {("claimed",): 1, ("replayed",): 1, ("reused",): 1, ("invalid",): 1} == found
    ends = {labels: series.value for labels, series in metrics.idempotency_outcomes.items()}
    assert {("kept",): 1} == ends
    refusals = {labels: series.value for labels, series in metrics.refusals.items()}
    assert {
        ("idempotency", "idempotency_key_reused"): 1,
        ("idempotency", "invalid_idempotency_key"): 1,
    } == refusals


async def test_what_is_in_force_when_the_key_is_written_down_decides(
    start: Start, keys: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(saying("Hi"), keys=keys)
    claim = keys.claim
    waits, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(wanted: Claim) -> Found:
        waits.set()
        await goes_on.wait()
        return await claim(wanted)

    monkeypatch.setattr(keys, "claim", slow)
    answering = asyncio.create_task(ask(running))
    await waits.wait()
    running.gateway.pods.put(pod("pod-1", "127.0.0.1", labels={COHORT: "llama-bf16-new"}))
    await running.take(model(cohort("llama-bf16-new")), TENANT)
    goes_on.set()
    answer = await answering

    assert (200, "Hi") == (answer.status, answer.text)


async def test_leases_are_renewed_while_work_goes_on(
    start: Start, keys: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[list[Claim]] = []
    monkeypatch.setattr(keys, "renew", lambda claims: renewed.append(list(claims)))
    slow = Slow()
    running = await start(slow, keys=keys)
    keyed = running.gateway.idempotency
    task = asyncio.create_task(ask(running))
    for _ in range(3):
        await until(lambda: keyed._timer is not None)
        timer = keyed._timer
        assert timer is not None
        assert timer.when() - asyncio.get_running_loop().time() < LEASE / 2
        timer.cancel()  # it is long: its time comes now
        keyed._renew()
    slow.go_on.set()
    await task

    assert [1, 1, 1] == [len(claims) for claims in renewed]
    timer = keyed._timer
    assert timer is not None
    timer.cancel()
    keyed._renew()  # nothing is left to renew
    assert keyed._timer is None
    assert len(renewed) == 3


# Clients that leave


async def test_a_client_that_leaves_loses_nothing(start: Start, keys: Store) -> None:
    slow = Slow()
    running = await start(slow, keys=keys)
    reader, writer = await dial(running)
    writer.write(post(STREAM, b"idempotency-key: order-7"))
    await reader.readuntil(b"Good")
    writer.close()
    reader, writer = await dial(running)
    writer.write(post(STREAM, b"idempotency-key: order-7"))
    assert 409 == (await read_answer(reader))[0]
    slow.go_on.set()
    await until(lambda: running.gateway.idempotency.held == 0)
    writer.write(post(STREAM, b"idempotency-key: order-7", b"connection: close"))
    answer = await reader.read()

    assert b"idempotency-replayed: true\r\n" in answer
    assert b"transfer-encoding: chunked\r\n" in answer
    assert b" bye" in answer
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert 1 == requests(running)
    writer.close()


async def test_a_client_that_leaves_before_the_first_byte_loses_nothing(
    start: Start, keys: Store
) -> None:
    slow = Slow()
    running = await start(slow, keys=keys)
    _, writer = await dial(running)
    writer.write(post(STREAM.replace(b"true", b"false"), b"idempotency-key: order-7"))
    await slow.asked.wait()
    writer.close()
    await until(lambda: next(iter(running.gateway.edge._connections))._lost)
    slow.go_on.set()
    await until(lambda: running.gateway.edge.connections == 0)
    reader, writer = await dial(running)
    writer.write(post(STREAM.replace(b"true", b"false"), b"idempotency-key: order-7"))
    status, body = await read_answer(reader)

    assert (200, True) == (status, b"Good bye" in body)
    assert 1 == requests(running)
    writer.close()


async def test_a_client_that_leaves_without_a_key_stops_the_model(
    start: Start, keys: Store
) -> None:
    slow = Slow()
    running = await start(slow, keys=keys)
    reader, writer = await dial(running)
    writer.write(post(STREAM))
    await reader.readuntil(b"Good")
    writer.close()

    await until(lambda: running.gateway.edge.connections == 0)
    slow.go_on.set()
    await running.upstreams[0].cancelled.wait()


async def test_a_drain_waits_for_a_request_whose_client_has_left(
    start: Start, keys: Store, tmp_path: Path
) -> None:
    slow = Slow()
    running = await start(slow, keys=keys)
    reader, writer = await dial(running)
    writer.write(post(STREAM, b"idempotency-key: order-7"))
    await reader.readuntil(b"Good")
    writer.close()
    await until(lambda: next(iter(running.gateway.edge._connections))._lost)
    drain = asyncio.create_task(running.gateway.drain(0.0, 60.0))
    await until(lambda: not running.gateway.edge._server.sockets)  # type: ignore[union-attr]
    assert not drain.done()
    slow.go_on.set()
    await drain

    next_one = await start(keys=SqliteStore(tmp_path / "keys.db", most_bytes=2**26))
    assert "Good bye" == (await ask_as(next_one, STREAM)).text


async def test_what_a_drain_ends_is_replayed_as_it_ended(
    start: Start, keys: Store, tmp_path: Path
) -> None:
    running = await start(Slow(), keys=keys)
    reader, writer = await dial(running)
    writer.write(post(STREAM, b"idempotency-key: order-7"))
    await reader.readuntil(b"Good")
    await running.gateway.drain(0.0, 0.0)
    writer.close()

    next_one = await start(keys=SqliteStore(tmp_path / "keys.db", most_bytes=2**26))
    answer = await ask_as(next_one, STREAM)
    assert (200, "gateway_draining") == (answer.status, answer.code)


async def test_what_is_cut_at_the_very_end_is_known_to_be_answered(
    start: Start, keys: Store, tmp_path: Path
) -> None:
    running = await start(Slow(), keys=keys)
    reader, writer = await dial(running)
    writer.write(post(STREAM, b"idempotency-key: order-7"))
    await reader.readuntil(b"Good")
    running.gateway.edge.abort()
    await running.gateway.edge.emptied()
    await running.gateway.idempotency.close()
    writer.close()

    next_one = await start(keys=SqliteStore(tmp_path / "keys.db", most_bytes=2**26))
    answer = await ask_as(next_one, STREAM)
    assert (200, "Good", "internal_error") == (answer.status, answer.text, answer.code)


async def ask_as(running: Running, body: bytes) -> Recorded:
    made = exchange()
    made.body = body
    await running.gateway.edge.handle(made)
    return made


# The official client


async def test_the_openai_client_waits_for_its_first_try_and_gets_its_answer(
    start: Start, keys: Store
) -> None:
    slow = Slow()
    running = await start(slow, keys=keys)
    headers = {"Idempotency-Key": "order-7"}
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=5) as ai:

        async def create() -> str | None:
            answer = await ai.chat.completions.create(
                model=NAME, messages=HELLO, extra_headers=headers
            )
            return answer.choices[0].message.content

        first, second = asyncio.create_task(create()), asyncio.create_task(create())
        counts = running.gateway.metrics.idempotency_requests
        await until(lambda: counts.of("in_use").value > 0)
        slow.go_on.set()

        assert ["Good bye"] * 2 == await asyncio.gather(first, second)
    assert 1 == requests(running)
    assert 1 == counts.of("replayed").value


async def test_the_openai_client_reads_a_replayed_stream(start: Start, keys: Store) -> None:
    running = await start(saying("Good", " morning"), keys=keys)

    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:

        async def read() -> list[Any]:
            headers = {"Idempotency-Key": "order-7"}
            stream = await ai.chat.completions.create(
                model=NAME, messages=HELLO, stream=True, extra_headers=headers
            )
            return [chunk async for chunk in stream]

        assert await read() == await read()
    assert 1 == requests(running)


# Several gateways


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Server]]:
    with valkey() as running:
        yield running


Pair = Callable[[Script], Awaitable[tuple[Running, Running]]]


@pytest.fixture
def pair(start: Start, server: tuple[str, Server]) -> Pair:
    """Two gateways with the same keys."""

    async def begin(script: Script) -> tuple[Running, Running]:
        one, other = [await start(script, keys=ValkeyStore(server[0])) for _ in range(2)]
        return one, other

    return begin


@pytest.mark.valkey
@pytest.mark.parametrize("stream", [False, True])
async def test_what_one_gateway_answered_another_one_replays(pair: Pair, stream: bool) -> None:
    slow = Slow()
    one, other = await pair(slow)
    key = f"shared-{stream}"
    first = asyncio.create_task(ask(one, key, stream=stream))
    await slow.asked.wait()
    assert 409 == (await ask(other, key, stream=stream)).status
    assert 422 == (await ask(other, key, stream=stream, temperature=1)).status
    slow.go_on.set()
    given = (await first).data
    answer = await ask(other, key, stream=stream)
    while answer.status == 409:  # the outcome is on its way to the server
        answer = await ask(other, key, stream=stream)

    assert (200, given) == (answer.status, answer.data)
    assert [1, 0] == [requests(one), requests(other)]


@pytest.mark.valkey
async def test_a_hundred_equal_requests_to_two_gateways_are_one_for_the_model(
    pair: Pair,
) -> None:
    slow = Slow()
    one, other = await pair(slow)
    tasks = [
        asyncio.create_task(ask(running, "hundred")) for _ in range(50) for running in (one, other)
    ]
    await until(lambda: sum(task.done() for task in tasks) == 99)
    slow.go_on.set()

    assert [200] + [409] * 99 == sorted([(await task).status for task in tasks])
    assert 1 == requests(one) + requests(other)
