"""All that a process logs is JSON, one object per line, whoever logs it."""

import json
import logging
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest
import structlog

from headgate_gateway.telemetry import logs


@pytest.fixture
def told() -> Iterator[tuple[logs.Lines, int]]:
    """The log of a process, written to a pipe; what it changes is changed back."""
    before, handlers = structlog.get_config(), logging.root.handlers[:]
    level = logging.root.level
    reader, writer = os.pipe()
    yield logs.configure_logs(writer), reader
    structlog.configure(**before)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logs._lines = None
    os.close(reader)
    os.close(writer)


def test_our_own_and_a_library_s_lines_look_alike(told: tuple[logs.Lines, int]) -> None:
    lines, reader = told
    structlog.get_logger().info("draining", streams=3, odd=Path("here"))
    logging.getLogger("library").warning("retrying in %d s", 4)
    logging.getLogger("library").info("of no interest")
    try:
        raise ValueError("wrong")  # noqa: TRY301 - to be logged
    except ValueError:
        structlog.get_logger().exception("bug")
    logs.write(b'{"event":"request"}\n')
    lines.close()

    ours, theirs, bug, request = map(json.loads, os.read(reader, 1 << 16).splitlines())
    assert ("draining", "info", 3, "here") == tuple(
        ours[key] for key in ("event", "level", "streams", "odd")
    )
    assert ("retrying in 4 s", "warning", "library") == tuple(
        theirs[key] for key in ("event", "level", "logger")
    )
    assert "ValueError: wrong" in bug["exception"]
    assert {"event": "request"} == request
    assert ours["time"].endswith("Z")
    assert 0 == logs.lost()


def test_a_line_that_names_its_request_keeps_it_wherever_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = ContextVar("request_id", default="of the context")
    monkeypatch.setattr(logs, "REQUEST_ID", context)

    assert {"id": "its own"} == logs.with_request_id(None, "", {"id": "its own"})
    assert {"id": "of the context"} == logs.with_request_id(None, "", {})


def test_without_a_configured_log_lines_go_to_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.write(b"a line\n")

    assert "a line\n" == capsys.readouterr().out
    assert 0 == logs.lost()
