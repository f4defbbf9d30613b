"""Traces as a collector gets them: OTLP over HTTP, decoded."""

import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from headgate_gateway.telemetry.export import Exporter
from headgate_gateway.telemetry.trace_context import Sampler

from .conftest import NAME, Running, until
from .test_calls import ask
from .told import BEGAN, STARTED, attempt, told
from .upstream import saying

LONG = 3600.0  # s: no test waits for it


class Receiver(ThreadingHTTPServer):
    """A small collector."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: queue.Queue[ExportTraceServiceRequest] = queue.Queue()
        self.status = 200
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        assert "/v1/traces" == self.path
        assert "application/x-protobuf" == self.headers["content-type"]
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.put(ExportTraceServiceRequest.FromString(body))
        self.server.hold.wait()
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


def exporter(receiver: Receiver, **more: Any) -> Exporter:
    given: dict[str, Any] = {"region": "here", "instance": "p", "endpoint": receiver.url}
    return Exporter(**given | {"every": 0.001} | more)


def value(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return [value(item) for item in any_value.array_value.values]
    return getattr(any_value, kind)


def attributes(of: Any) -> dict[str, Any]:
    return {pair.key: value(pair.value) for pair in of.attributes}


def test_a_collector_gets_a_request_s_spans(receiver: Receiver) -> None:
    sends = exporter(receiver)
    lost = attempt(STARTED + 0.01, STARTED + 0.02, "upstream_lost", span=0xC)
    won = attempt(STARTED + 0.02, STARTED + 2, "ok", span=0xD, pod="pod-2")
    sends.put(told(lost, won, attempts=2))
    request = receiver.got.get()
    sends.close()

    (of_resource,) = request.resource_spans
    resource = attributes(of_resource.resource)
    assert ("headgate-gateway", "p", "here") == tuple(
        resource[name] for name in ("service.name", "service.instance.id", "headgate.region")
    )
    (of_scope,) = of_resource.scope_spans
    assert "headgate" == of_scope.scope.name
    server, _, _, first, second = of_scope.spans
    assert {(0xA).to_bytes(16, "big")} == {span.trace_id for span in of_scope.spans}
    assert {"v=1"} == {span.trace_state for span in of_scope.spans}
    assert ["POST /v1/chat/completions", "stage identity", "stage parse"] + [
        "chat llama-3-1-8b"
    ] * 2 == [span.name for span in of_scope.spans]
    assert [2, 1, 1, 3, 3] == [span.kind for span in of_scope.spans]  # server, internal, client
    assert (0xF).to_bytes(8, "big") == server.parent_span_id
    assert {(0xB).to_bytes(8, "big")} == {span.parent_span_id for span in (first, second)}
    assert [(0xC).to_bytes(8, "big"), (0xD).to_bytes(8, "big")] == [first.span_id, second.span_id]
    assert (int(BEGAN * 1e9), int((BEGAN + 2) * 1e9)) == (
        server.start_time_unix_nano,
        server.end_time_unix_nano,
    )
    assert [(0, ""), (2, "upstream_lost"), (0, "")] == [
        (span.status.code, span.status.message) for span in (server, first, second)
    ]
    assert ["stop"] == attributes(second)["gen_ai.response.finish_reasons"]
    assert 9 == attributes(second)["gen_ai.usage.output_tokens"]
    assert (1, 0, 0) == (sends.exported, sends.failed, sends.dropped)


async def test_a_request_through_a_gateway_reaches_the_collector(
    start: Callable[..., Awaitable[Running]], receiver: Receiver
) -> None:
    running = await start(saying("Hi"))
    sends = exporter(receiver)
    running.gateway.inference.teller.tracing.collector = sends
    running.gateway.inference.sampler = Sampler(ratio=1.0)
    await ask(running, messages=[{"role": "user", "content": "my secret"}])
    await until(lambda: 1 == sends.exported)
    sends.close()

    request = receiver.got.get()
    spans = request.resource_spans[0].scope_spans[0].spans
    assert ["POST /v1/chat/completions", f"chat {NAME}"] == [spans[0].name, spans[-1].name]
    assert {"stage identity", "stage routing"} < {span.name for span in spans}
    assert 0 < spans[0].start_time_unix_nano <= spans[-1].start_time_unix_nano
    assert spans[-1].end_time_unix_nano <= spans[0].end_time_unix_nano
    assert b"secret" not in request.SerializeToString()


def test_closing_sends_what_waits(receiver: Receiver) -> None:
    sends = exporter(receiver, every=LONG)
    for _ in range(3):
        sends.put(told())
    sends.close(LONG)

    assert 3 == sends.exported
    spans = receiver.got.get().resource_spans[0].scope_spans[0].spans
    assert 3 == sum(span.kind == 2 for span in spans)


async def test_nobody_waits_for_a_collector_that_does_not_answer(receiver: Receiver) -> None:
    receiver.hold.clear()
    sends = exporter(receiver, every=0.0, most=2)
    sends.put(told())
    receiver.got.get()  # it is being sent, and stays so
    for _ in range(5):
        sends.put(told())

    assert 3 == sends.dropped
    receiver.hold.set()
    await until(lambda: 3 == sends.exported)
    sends.close()
    assert (3, 0, 3) == (sends.exported, sends.failed, sends.dropped)


def test_what_a_collector_refuses_is_counted(receiver: Receiver) -> None:
    receiver.status = 400
    sends = exporter(receiver)
    sends.put(told())
    sends.close(LONG)

    assert (0, 1, 0) == (sends.exported, sends.failed, sends.dropped)


def test_a_collector_that_is_away_costs_traces_and_nothing_else(receiver: Receiver) -> None:
    sends = exporter(receiver, endpoint="http://127.0.0.1:1/v1/traces", timeout=0.001)
    sends.put(told())
    sends.close(LONG)

    assert (0, 1, 0) == (sends.exported, sends.failed, sends.dropped)


def test_opentelemetry_s_own_variables_are_heard(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = receiver.url.removesuffix("/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", base)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ai")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    sends = exporter(receiver, endpoint=None)
    sends.put(told())
    resource = attributes(receiver.got.get().resource_spans[0].resource)
    sends.close()

    assert ("ai", "test") == (resource["service.name"], resource["deployment.environment.name"])
