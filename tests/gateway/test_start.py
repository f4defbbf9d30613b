"""What a gateway has in memory once it has started: the libraries that its settings ask for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LARGE = {
    *("aiohttp", "jinja2", "jsonschema_rs", "kubernetes", "opentelemetry.sdk"),
    *("prometheus_client", "pydantic", "re2", "redis", "sqlite3"),
}
"""Libraries that take megabytes and that not every gateway needs."""
ALONE = """
import asyncio
import json
import sys
from headgate_cli import main, serve
from headgate_cli.local import Files, authority
from headgate_gateway.main import Process
from headgate_gateway.settings import read_settings

async def start():
    settings = read_settings(namespace="local", region="here", **json.loads(sys.argv[1]))
    Process(settings, lambda gateway: Files([], "here", [], gateway), authority("127.0.0.1"))

asyncio.run(start())
print(*sys.modules)
"""
IN_A_CLUSTER = """
import sys
from headgate_cli import main as cli
from headgate_gateway import access, follow, main
print(*sys.modules)
"""


def large(script: str, **settings: object) -> set[str]:
    """Name the large libraries that a process has loaded after a script of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, json.dumps(settings)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return LARGE.intersection(run.stdout.split())


@pytest.mark.parametrize(
    ("settings", "loaded"),
    [
        ({}, set()),
        ({"idempotency_store": "embedded"}, {"sqlite3"}),
        # The client of Valkey loads OpenTelemetry itself, wherever it is installed.
        (
            {"idempotency_store": "valkey", "idempotency_url": "redis://there"},
            {"opentelemetry.sdk", "redis"},
        ),
        ({"trace_endpoint": "http://there/v1/traces"}, {"opentelemetry.sdk"}),
    ],
    ids=["as it is", "embedded", "valkey", "traces"],
)
def test_a_gateway_loads_what_its_settings_ask_for(
    tmp_path: Path, settings: dict[str, object], loaded: set[str]
) -> None:
    assert loaded == large(ALONE, **settings, idempotency_dir=str(tmp_path))


def test_a_gateway_in_a_cluster_loads_the_client_of_its_api_server() -> None:
    assert {"aiohttp"} == large(IN_A_CLUSTER)
