"""How a process begins to tell, and what is written when it ends."""

import json
import os
import subprocess
import sys

import pytest

from headgate_api.errors import TerminalError
from headgate_gateway.settings import Settings, read_settings
from headgate_gateway.telemetry import logs
from headgate_gateway.telemetry.setup import start

ENDPOINT = "http://127.0.0.1:1/v1/traces"


def settings(**more: object) -> Settings:
    return Settings(namespace="headgate", region="here", **more)


def test_without_an_endpoint_no_traces_are_exported() -> None:
    telemetry = start(settings(), {})

    assert telemetry.tracing.collector is None
    assert (0, 0) == (telemetry.tracing.exported, telemetry.tracing.lost)
    telemetry.close()


def test_with_an_endpoint_they_are() -> None:
    telemetry = start(settings(trace_endpoint=ENDPOINT), {})

    assert telemetry.tracing.collector is not None
    telemetry.close()


def test_settings_say_who_is_sampled_what_is_slow_and_whether_requests_are_logged() -> None:
    asked = {"trace_ratio": 0.5, "trace_follow": False, "trace_slow": 3.0}
    telemetry = start(settings(access_log=False, **asked), {})

    assert (0.5, False, 3.0) == (
        telemetry.sampler.ratio,
        telemetry.sampler.follow,
        telemetry.tracing.slow,
    )
    assert telemetry.write is None
    assert logs.write is start(settings(), {}).write


def test_opentelemetry_chooses_the_conventions() -> None:
    environment = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}

    assert "latest" == start(settings(), environment).conventions
    assert "v1.41" == start(settings(), {}).conventions


@pytest.mark.parametrize(
    "wrong",
    [{"trace_ratio": 1.1}, {"trace_slow": 0}, {"trace_endpoint": "collector:4318"}],
    ids=str,
)
def test_wrong_settings_stop_the_start(wrong: dict[str, object]) -> None:
    with pytest.raises(TerminalError, match=next(iter(wrong)).upper()):
        read_settings(namespace="headgate", region="here", **wrong)


def python(script: str) -> str:
    """Run a script in a process of its own, with our modules, and return what it printed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment
    )
    return run.stdout


def test_what_was_logged_is_written_before_the_process_ends() -> None:
    script = """
from headgate_gateway.telemetry import logs
import structlog
logs.configure_logs()
structlog.get_logger().info("stopped")
logs.write(b'{"event":"request"}\\n')
"""
    lines = [json.loads(line) for line in python(script).splitlines()]

    assert ["stopped", "request"] == [line["event"] for line in lines]
