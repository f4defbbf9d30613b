"""Requests that are over, for tests of what is told about them."""

from datetime import UTC, datetime
from typing import Any

from headgate_gateway.telemetry.facts import Facts
from headgate_gateway.telemetry.spans import Told
from headgate_gateway.telemetry.trace_context import Trace
from headgate_gateway.timeline import Attempt, Timeline

from .conftest import cohort

BEGAN = 1_700_000_000.0
STARTED = 50.0  # on the loop's clock


def facts(**more: Any) -> Facts:
    given: dict[str, Any] = {
        "level": "info",
        "time": datetime.fromtimestamp(BEGAN + 2, UTC),
        "id": "p-1",
        "trace_id": f"{0xA:032x}",
        "status": 200,
        "code": "ok",
        "duration_s": 2.0,
        "operation": "chat",
        "tenant": "acme",
        "namespace": "chat",
        "model": "llama",
        "public_name": "llama-3-1-8b",
        "attempts": 1,
        "first_token_s": 0.5,
        "input_tokens": 7,
        "output_tokens": 9,
        "finish_reason": "stop",
    }
    return Facts(**given | more)


def attempt(started: float, ended: float | None, result: str = "ok", **more: Any) -> Attempt:
    made = Attempt(
        more.pop("pod", "pod-1"), cohort(), hedge=more.pop("hedge", False), started=started
    )
    made.ended, made.result = ended, result
    for name, value in more.items():
        setattr(made, name, value)
    return made


def timeline(*attempts: Attempt) -> Timeline:
    made = Timeline(STARTED)
    made.names, made.seconds = ("identity", "parse"), [0.001, 0.002]
    made.attempts = list(attempts)
    made.first_text = STARTED + 0.5 if attempts else None
    made.ended = STARTED + 2.0
    return made


def trace(*, sampled: bool = True, parent: int = 0xF) -> Trace:
    return Trace(trace_id=0xA, span_id=0xB, parent_id=parent, flags=int(sampled), state=b"v=1")


def told(*attempts: Attempt, sampled: bool = True, parent: int = 0xF, **more: Any) -> Told:
    if not attempts and "code" not in more:
        attempts = (attempt(STARTED + 0.01, STARTED + 2, span=0xC, first_text=STARTED + 0.51),)
    return Told(
        facts=facts(**more),
        timeline=timeline(*attempts),
        trace=trace(sampled=sampled, parent=parent),
        began=BEGAN,
        method="POST",
        path="/v1/chat/completions",
    )
