"""A request as spans, and which requests are kept as traces."""

import itertools
from typing import Any

import pytest

from headgate_gateway.telemetry.spans import Span, Told, spans
from headgate_gateway.telemetry.tracing import KEPT_PER_SECOND, Tracing, exporting

from .told import BEGAN, STARTED, attempt, told


def build(over: Told) -> list[Span]:
    ids = itertools.count(100)
    return spans(over, region="here", ids=lambda: next(ids))


def ms(span: Span) -> tuple[int, int]:
    """Begin and end since the request began."""
    began = int(BEGAN * 1000)
    return round(span.started / 1e6) - began, round(span.ended / 1e6) - began


def test_a_request_its_stages_and_its_attempts_are_spans() -> None:
    server, identity, parse, call = build(told())

    assert [
        ("POST /v1/chat/completions", "server", 0xB, 0xF, (0, 2000)),
        ("stage identity", "internal", 100, 0xB, (0, 1)),
        ("stage parse", "internal", 101, 0xB, (1, 3)),
        ("chat llama-3-1-8b", "client", 0xC, 0xB, (10, 2000)),
    ] == [
        (span.name, span.kind, span.span_id, span.parent_id, ms(span))
        for span in (server, identity, parse, call)
    ]
    assert [None] * 4 == [span.error for span in (server, identity, parse, call)]


def test_spans_bear_the_names_of_the_conventions() -> None:
    server, *_, call = build(told())

    assert {
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "headgate",
        "gen_ai.request.model": "llama-3-1-8b",
        "headgate.request.id": "p-1",
        "headgate.code": "ok",
        "headgate.region": "here",
        "headgate.tenant": "acme",
        "headgate.namespace": "chat",
        "headgate.model": "llama",
        "headgate.attempts": 1,
    } == server.attributes
    first = call.attributes["gen_ai.response.time_to_first_chunk"]
    assert isinstance(first, float)
    assert 0.5 == pytest.approx(first)
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "headgate",
        "gen_ai.request.model": "llama-3-1-8b",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "tensorrt_llm",
        "gen_ai.response.time_to_first_chunk": first,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 9,
        "headgate.pod": "pod-1",
        "headgate.variant": "bf16",
        "headgate.revision": "0a1b2c3d",
        "headgate.runtime": "triton-llmapi",
        "headgate.attempt": 1,
        "headgate.hedge": False,
        "headgate.result": "ok",
    } == call.attributes


def test_each_attempt_says_how_it_ended_and_only_the_one_that_answered_has_tokens() -> None:
    lost = attempt(STARTED + 0.01, STARTED + 0.02, "upstream_lost", span=1)
    late = attempt(STARTED + 0.2, STARTED + 0.9, "hedge_lost", span=2)
    won = attempt(STARTED + 0.8, STARTED + 2, "ok", span=3, pod="pod-2", hedge=True)
    calls = build(told(lost, late, won))[-3:]

    assert [("upstream_lost", "upstream_lost"), (None, None), (None, None)] == [
        (span.error, span.attributes.get("error.type")) for span in calls
    ]
    assert [False, False, True] == ["gen_ai.usage.input_tokens" in s.attributes for s in calls]
    assert [(1, False), (2, False), (3, True)] == [
        (span.attributes["headgate.attempt"], span.attributes["headgate.hedge"]) for span in calls
    ]
    assert [1, 2, 3] == [span.span_id for span in calls]


def test_an_attempt_that_nobody_ended_ends_with_the_request() -> None:
    running = attempt(STARTED + 0.5, None, "", span=1)
    call = build(told(running, code="client_closed", status=0))[-1]

    assert (500, 2000) == ms(call)
    assert ("client_closed", None) == (call.attributes["headgate.result"], call.error)


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [("invalid_json", 400, None), ("model_not_ready", 503, "model_not_ready")],
)
def test_a_refusal_is_told_by_the_stage_that_said_no(
    code: str, status: int, error: str | None
) -> None:
    server, identity, parse = build(told(code=code, status=status))

    assert "headgate.code" not in identity.attributes
    assert code == parse.attributes["headgate.code"]
    assert (error, error) == (server.error, parse.error)


def test_a_stream_that_ended_with_an_error_event_is_an_error() -> None:
    cut = attempt(STARTED + 0.01, STARTED + 1, "upstream_lost", span=1)

    assert "upstream_lost" == build(told(cut, code="upstream_lost", status=200))[0].error


def test_without_a_client_s_trace_the_request_is_the_root() -> None:
    assert 0 == build(told(parent=0))[0].parent_id


class Kept:
    exported = failed = 0

    def __init__(self) -> None:
        self.dropped = 0
        self.told: list[Told] = []

    def put(self, over: Told) -> None:
        self.told.append(over)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("over", "kept"),
    [
        ({}, True),
        ({"sampled": False}, False),
        ({"sampled": False, "code": "upstream_lost", "status": 502}, True),
        ({"sampled": False, "code": "upstream_lost", "status": 200}, True),
        ({"sampled": False, "code": "invalid_api_key", "status": 401}, False),
        ({"sampled": False, "code": "client_closed", "status": 0}, False),
        ({"sampled": False, "first_token_s": 10.0, "duration_s": 11.0}, True),
        ({"sampled": False, "first_token_s": 9.0, "duration_s": 60.0}, False),
        ({"sampled": False, "first_token_s": None, "duration_s": 60.0}, True),
    ],
    ids=str,
)
def test_what_was_sampled_failed_or_was_slow_is_kept(over: dict[str, Any], kept: bool) -> None:
    collector = Kept()
    Tracing(collector=collector).end(told(**over))

    assert kept == bool(collector.told)
    assert 0 == collector.dropped


def test_a_storm_of_errors_is_told_in_part() -> None:
    collector = Kept()
    tracing = Tracing(collector=collector)
    for _ in range(3 * KEPT_PER_SECOND):
        tracing.end(told(sampled=False, code="model_not_ready", status=503))

    assert KEPT_PER_SECOND == len(collector.told)
    assert 2 * KEPT_PER_SECOND == collector.dropped == tracing.lost
    tracing.end(told(sampled=True))
    assert KEPT_PER_SECOND + 1 == len(collector.told)


def test_without_a_collector_nothing_is_kept() -> None:
    Tracing().end(told())


@pytest.mark.parametrize(
    ("environment", "endpoint", "wanted"),
    [
        ({}, None, False),
        ({}, "http://there:4318/v1/traces", True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://there:4318/v1/traces"}, None, True),
        ({"OTEL_SDK_DISABLED": "TRUE"}, "http://there:4318/v1/traces", False),
    ],
)
def test_traces_are_exported_where_an_endpoint_is_known(
    environment: dict[str, str], endpoint: str | None, wanted: bool
) -> None:
    assert wanted == exporting(environment, endpoint)
