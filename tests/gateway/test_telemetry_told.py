"""What is told of requests that went through a gateway: log lines, metrics, traces, the report."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from headgate_api.snapshot import DeadlineBody, Entry, HedgingBody
from headgate_gateway.calls.events import Usage
from headgate_gateway.edge.exchange import Head
from headgate_gateway.metrics import Metrics
from headgate_gateway.request import Request
from headgate_gateway.routing.tables import Tables
from headgate_gateway.telemetry.in_flight import MOST, in_flight
from headgate_gateway.telemetry.logs import with_request_id
from headgate_gateway.telemetry.series import OTHER, Count, Family
from headgate_gateway.telemetry.spans import Told, spans
from headgate_gateway.timeline import Timeline

from .conftest import ENSEMBLE, KEY, MODEL, NAME, TENANT, Running, policy, until
from .exchanges import Recorded
from .test_calls import ask, failing
from .told import trace
from .upstream import Connection, ensemble_saying, saying

Start = Callable[..., Awaitable[Running]]


def lines_of(running: Running) -> list[Any]:
    """The access log from now on, decoded."""
    lines: list[Any] = []
    running.gateway.inference.teller.write = lambda line: lines.append(json.loads(line))
    return lines


class Kept:
    exported = failed = dropped = 0

    def __init__(self) -> None:
        self.told: list[Told] = []

    def put(self, told: Told) -> None:
        self.told.append(told)

    def close(self) -> None:
        pass


def told(running: Running) -> str:
    """All metrics, as Prometheus reads them."""
    return running.gateway.metrics.exposition().decode()


async def silent(connection: Connection) -> None:
    await connection.begin()
    await connection.left()


async def refusing(connection: Connection) -> None:
    connection.reset()


# the log


async def test_a_request_is_one_line_with_names_and_numbers_and_no_text(start: Start) -> None:
    running = await start(saying("Good", " day"))
    lines = lines_of(running)
    await ask(running, messages=[{"role": "user", "content": "my secret"}], user="my user")

    (line,) = lines
    assert {
        "event": "request",
        "level": "info",
        "id": "test-1",
        "status": 200,
        "code": "ok",
        "operation": "chat",
        "tenant": "acme",
        "key": "first",
        "namespace": "chat",
        "model": "llama",
        "public_name": NAME,
        "attempts": 1,
        "cohort": "llama-bf16-0a1b2c3d",
        "pod": "pod-1",
        "output_tokens": 2,
        "tokens_estimated": True,
        "finish_reason": "stop",
    }.items() <= line.items()
    assert ["identity", "parse", "routing", "deadline", "input", "context"] == list(
        line["stages_ms"]
    )
    assert 0 <= sum(line["stages_ms"].values()) <= 1000 * line["duration_s"] + 1
    assert 0 <= line["first_token_s"] <= line["duration_s"]
    assert 110_000 < line["deadline_left_ms"] <= 120_000
    text = json.dumps(line)
    assert not any(word in text for word in ("secret", "my user", "Good", KEY))


async def test_a_refused_request_says_how_far_it_came(start: Start) -> None:
    running = await start(saying("Hi"))
    lines = lines_of(running)
    await ask(running, model="unknown")
    await running.gateway.edge.handle(Recorded("POST", "/v1/chat/completions", "wrong key"))
    await asyncio.sleep(0)

    unknown, stranger = lines
    assert (404, "model_not_found", "acme") == tuple(
        unknown[name] for name in ("status", "code", "tenant")
    )
    assert "model" not in unknown
    assert "unknown" not in json.dumps(unknown)  # what a client writes is not ours to keep
    assert (401, "invalid_api_key", ["identity"]) == (
        stranger["status"],
        stranger["code"],
        list(stranger["stages_ms"]),
    )
    assert "tenant" not in stranger


async def test_a_request_that_cannot_be_told_is_counted_as_a_bug_and_keeps_no_other_back(
    start: Start,
) -> None:
    running = await start(saying("Hi"))
    lines: list[bytes] = []

    def write(line: bytes) -> None:
        if b"odd" in line:
            raise OSError("broken")
        lines.append(line)

    running.gateway.inference.teller.write = write
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, found: failures.append(found))
    names = ("test-1", "odd", "test-2")
    made = [Recorded("POST", "/v1/chat/completions", KEY, b"{}") for _ in names]
    for exchange, exchange.id in zip(made, names, strict=True):
        await running.gateway.edge.handle(exchange)
    await until(lambda: len(lines) == 2)

    assert ["test-1", "test-2"] == [json.loads(line)["id"] for line in lines]
    assert ["broken"] == [str(failure["exception"]) for failure in failures]
    assert 1 == running.gateway.metrics.bugs.of().value


async def test_more_than_one_try_is_told_one_by_one(start: Start) -> None:
    running = await start(refusing, saying("Hi"))
    lines = lines_of(running)
    running.gateway.pods._turn = 1  # the first pod is asked first
    await ask(running)

    assert [("pod-1", "upstream_lost"), ("pod-2", "ok")] == [
        (tried["pod"], tried["result"]) for tried in lines[0]["tries"]
    ]
    assert (2, "pod-2") == (lines[0]["attempts"], lines[0]["pod"])


async def test_what_is_heard_on_a_connection_is_logged_of_the_request_that_uses_it(
    start: Start,
) -> None:
    break_off = asyncio.Event()

    async def breaking(connection: Connection) -> None:
        await connection.begin()
        await connection.event(text_output="Good", finish_reason="None")
        await break_off.wait()
        connection.reset()

    running = await start(saying("Hi"))

    async def ask_as(name: str) -> Recorded:
        body = {"model": NAME, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        exchange = Recorded("POST", "/v1/chat/completions", KEY, json.dumps(body).encode())
        exchange.id = name
        await running.gateway.edge.handle(exchange)
        return exchange

    with capture_logs(processors=[with_request_id]) as lines:
        await asyncio.create_task(ask_as("dials"))
        running.upstreams[0].script = breaking
        asking = asyncio.create_task(ask_as("uses"))
        calls = running.gateway.inference.calls
        await until(lambda: any(getattr(call, "_give", None) for call in calls))
        break_off.set()
        assert "upstream_lost" == (await asking).code

    assert [("model server failed", "uses")] == [(line["event"], line["id"]) for line in lines]


async def test_a_gateway_may_keep_no_log_of_requests(start: Start) -> None:
    running = await start(saying("Hi"))
    running.gateway.inference.teller.write = None

    assert 200 == (await ask(running)).status


# metrics

SERVED = 'arm="stable",model="llama",namespace="chat",region="here",route="direct",variant="bf16"'
COHORT = 'model="llama",namespace="chat"'


async def test_answers_are_counted_by_model_route_arm_and_region(start: Start) -> None:
    running = await start(saying("Good", " day", "!"))
    await ask(running)
    text = told(running)

    for name in ("request_duration", "time_to_first_token", "time_per_output_token"):
        assert f"headgate_gateway_{name}_seconds_count{{{SERVED}}} 1.0" in text
    for line in (
        f'headgate_gateway_attempts_total{{{COHORT},result="ok",variant="bf16"}} 1.0',
        f'headgate_gateway_tokens_total{{direction="output",{COHORT},variant="bf16"}} 3.0',
        'headgate_gateway_stage_duration_seconds_count{stage="routing"} 1.0',
        'headgate_gateway_hedges_total{outcome="started"} 0.0',
        "headgate_gateway_log_lines_lost_total 0.0",
        "headgate_gateway_traces_lost_total 0.0",
        'headgate_gateway_series_overflow_total{metric="headgate_gateway_requests"} 0.0',
    ):
        assert line in text
    assert "acme" not in text


async def test_a_route_s_name_is_a_label(start: Start) -> None:
    running = await start(saying("Hi"), entries=policy())
    await ask(running)

    assert 'region="here",route="front/all",variant="bf16"' in told(running)


async def test_retries_are_counted_by_what_went_wrong_before(start: Start) -> None:
    running = await start(refusing, saying("Hi"))
    running.gateway.pods._turn = 1
    await ask(running)

    text = told(running)
    assert 'headgate_gateway_retries_total{reason="upstream_lost"} 1.0' in text
    assert f'attempts_total{{{COHORT},result="upstream_lost",variant="bf16"}} 1.0' in text
    counts = running.gateway.feedback.of("chat", "llama", "llama-bf16-0a1b2c3d")
    assert (1, 1) == (counts.answered, counts.failed)


async def test_a_hedge_is_started_and_won_or_lost(start: Start) -> None:
    hedged = policy(hedging=HedgingBody(seconds=0.001, max_percent=100))
    running = await start(silent, saying("Hi"), entries=hedged)
    running.gateway.pods._turn = 1
    assert "Hi" == (await ask(running)).text

    text = told(running)
    for outcome, count in (("started", 1.0), ("won", 1.0), ("lost", 0.0)):
        assert f'headgate_gateway_hedges_total{{outcome="{outcome}"}} {count}' in text
    assert 'headgate_gateway_cancellations_total{cause="hedge_lost"} 1.0' in text
    assert "headgate_gateway_retries_total{" not in text


async def test_a_client_that_leaves_is_the_cause_of_a_cancellation(start: Start) -> None:
    running = await start(silent)
    lines = lines_of(running)
    asking = asyncio.create_task(ask(running))
    await until(lambda: running.upstreams[0].requests == 1)
    asking.cancel()
    await asyncio.wait([asking])

    text = told(running)
    assert 'headgate_gateway_cancellations_total{cause="client_closed"} 1.0' in text
    assert 'requests_total{code="client_closed",status="0"} 1.0' in text
    assert (0, "client_closed", 1) == tuple(lines[0][n] for n in ("status", "code", "attempts"))
    counts = running.gateway.feedback.of("chat", "llama", "llama-bf16-0a1b2c3d")
    assert (0, 0) == (counts.answered, counts.failed)


async def test_how_fast_a_model_server_is_let_go_is_measured(start: Start) -> None:
    running = await start(silent)
    _, writer = await asyncio.open_connection("127.0.0.1", running.gateway.edge.port)
    body = json.dumps({"model": NAME, "messages": [{"role": "user", "content": "Hello"}]})
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}".encode()
    )
    await until(lambda: running.upstreams[0].requests == 1)
    writer.transport.abort()
    seconds = running.gateway.metrics.cancel_seconds.of()
    await until(lambda: sum(seconds.counts) == 1)

    assert 0 <= seconds.total < 60


async def test_a_time_that_is_over_is_counted_where_it_showed(start: Start) -> None:
    short = policy(deadlines=DeadlineBody(total=0.02, reserve=0.0))
    running = await start(silent, entries=short)
    assert 504 == (await ask(running)).status

    text = told(running)
    assert 'headgate_gateway_deadline_exceeded_total{stage="call"} 1.0' in text
    assert 'headgate_gateway_cancellations_total{cause="deadline_exceeded"} 1.0' in text
    assert "headgate_gateway_cancel_duration_seconds_count 1.0" in text


@pytest.mark.parametrize("made", [ENSEMBLE, MODEL], ids=["counts", "estimates"])
async def test_dashboards_for_opentelemetry_s_names_find_theirs(start: Start, made: Entry) -> None:
    script = ensemble_saying("Good", " day") if made is ENSEMBLE else saying("Good", " day")
    running = await start(script, entries=(made, TENANT))
    await ask(running)
    text = told(running)

    names = (
        'gen_ai_operation_name="chat",gen_ai_provider_name="headgate",'
        f'gen_ai_request_model="{NAME}",gen_ai_response_model="{NAME}"'
    )
    assert f'gen_ai_server_request_duration_seconds_count{{error_type="",{names}}} 1.0' in text
    assert f"gen_ai_server_time_to_first_token_seconds_count{{{names}}} 1.0" in text
    assert f"gen_ai_server_time_per_output_token_seconds_count{{{names}}} 1.0" in text
    usage = f"gen_ai_client_token_usage_sum{{{names},gen_ai_token_type="
    assert f'{usage}"output"}} 2.0' in text
    assert f'{usage}"input"}} {7.0 if made is ENSEMBLE else 0.0}' in text


async def test_failures_have_an_error_type(start: Start) -> None:
    running = await start(failing(500, b"no"))
    await ask(running)
    text = told(running)

    assert 'gen_ai_server_request_duration_seconds_count{error_type="upstream_error",' in text
    assert "gen_ai_server_time_to_first_token_seconds_sum" in text


def test_the_latest_conventions_count_tokens_their_way() -> None:
    metrics = Metrics("here", "latest")
    bound = metrics.genai.bind("chat", "asked", "public")
    bound.add_usages(
        (Usage(10, 4, cached_tokens=3, reasoning_tokens=2), Usage(99, 4, estimated=True), None)
    )
    text = metrics.exposition().decode()

    names = (
        'gen_ai_operation_name="chat",gen_ai_provider_name="headgate",'
        'gen_ai_request_model="asked",gen_ai_response_model="public"'
    )
    usage = "gen_ai_client_inference_usage"
    for kind, count in (
        ("input", 10.0),
        ("output", 8.0),
        ("cache_read_input", 3.0),
        ("reasoning_output", 2.0),
    ):
        line = f'{usage}_{kind}_tokens_total{{{names},gen_ai_token_modality="text"}} {count}'
        assert line in text
    assert f'{usage}_input_tokens_total{{{names},gen_ai_token_modality="unknown"}} 0.0' in text
    operation = "gen_ai_client_inference_operation"
    assert f"{operation}_input_tokens_count{{{names}}} 1.0" in text
    assert f"{operation}_output_tokens_sum{{{names}}} 8.0" in text
    assert "gen_ai_client_token_usage" not in text


def test_a_metric_s_series_are_bounded_and_the_rest_is_counted_together() -> None:
    family: Family[Count] = Family("f", "", ("model", "result"), Count, most=2)
    for name in ("a", "b", "c", "d", "a"):
        family.of(name, "ok").add()

    assert {("a", "ok"): 2, ("b", "ok"): 1, (OTHER, OTHER): 2} == {
        labels: count.value for labels, count in family.items()
    }
    assert 2 == family.overflowed


# traces


async def test_model_servers_are_told_the_span_that_calls_them(start: Start) -> None:
    heads: list[str] = []
    speak = saying("Hi")

    async def script(connection: Connection) -> None:
        heads.append(connection.head)
        if len(heads) == 1:
            connection.reset()
        else:
            await speak(connection)

    running = await start(script, script)
    collector = running.gateway.inference.teller.tracing.collector = Kept()
    lines = lines_of(running)
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}]}
    exchange = Recorded(
        "POST",
        "/v1/chat/completions",
        KEY,
        json.dumps(body).encode(),
        {b"traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"tracestate": b"v=1"},
    )
    await running.gateway.edge.handle(exchange)
    await asyncio.sleep(0)

    (over,) = collector.told
    server, *_, first, second = spans(over, region="here")
    assert "a" * 32 == lines[0]["trace_id"] == f"{over.trace.trace_id:032x}"
    assert int("b" * 16, 16) == server.parent_id
    for head, span in zip(heads, (first, second), strict=True):
        assert f"traceparent: 00-{'a' * 32}-{span.span_id:016x}-01\r\n" in head
        assert "tracestate: v=1\r\n" in head
        assert server.span_id == span.parent_id
    assert ["upstream_lost", None] == [first.error, second.error]


# requests in flight


async def test_requests_in_flight_are_told_by_stage(start: Start) -> None:
    running = await start(silent)
    asking = asyncio.create_task(ask(running, messages=[{"role": "user", "content": "secret"}]))
    await until(lambda: running.upstreams[0].requests == 1)
    body = running.gateway.requests_in_flight()
    report = json.loads(body)

    assert (1, {"call": 1}) == (report["total"], report["by_stage"])
    (request,) = report["oldest"]
    assert {
        "id": "test-1",
        "stage": "call",
        "tenant": "acme",
        "namespace": "chat",
        "model": "llama",
        "pod": "pod-1",
        "attempt": 1,
    }.items() <= request.items()
    assert 0 <= request["age_s"] < 120
    assert request["deadline_left_s"] <= 120
    assert b"secret" not in body
    asking.cancel()
    await asyncio.wait([asking])
    assert {"total": 0, "by_stage": {}, "oldest": []} == json.loads(
        running.gateway.requests_in_flight()
    )


def test_the_report_is_bounded_and_begins_with_the_oldest() -> None:
    requests = {}
    for number in range(MOST + 10):
        timeline = Timeline(started=1000.0 - number)
        timeline.waits = "idempotency"
        requests[str(number)] = Request(
            id=str(number),
            head=Head("POST", "/v1/chat/completions", {}),
            body=b"",
            tables=Tables(),
            loaded=True,
            now=0.0,
            trace=trace(),
            timeline=timeline,
        )
    report = json.loads(in_flight(requests, 1000.0))

    assert (MOST + 10, {"idempotency": MOST + 10}) == (report["total"], report["by_stage"])
    ages = [request["age_s"] for request in report["oldest"]]
    assert [float(MOST + 9 - number) for number in range(MOST)] == ages
