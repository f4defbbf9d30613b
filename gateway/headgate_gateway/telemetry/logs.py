"""Where the log goes: one JSON object per line on standard output, written by `Lines`.

As structlog's own configuration, this is one for the process.
"""

import atexit
import logging
import sys
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

import msgspec
import structlog

from headgate_gateway.telemetry.lines import Lines

_TELL: Final = structlog.get_logger(__name__)
_lines: Lines | None = None
REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Of the request that a task works at; stands in all that the task logs."""


def configure_logs(fd: int | None = None) -> Lines:
    """Write the log to `fd`, standard output by default, until the process exits."""
    global _lines  # noqa: PLW0603 - the process has one
    lines = _lines = Lines(sys.stdout.fileno() if fd is None else fd)
    atexit.register(lines.close)
    structlog.configure(
        processors=[
            with_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Written(lines.write),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_FromLibraries()], force=True)
    return lines


def with_request_id(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Name the request in whose work something is logged, if that does not name one itself.

    A processor, as structlog has them.
    """
    if (request_id := REQUEST_ID.get()) is not None:
        event.setdefault("id", request_id)
    return event


def write(line: bytes) -> None:
    """Write a line that is whole already, with its line break."""
    if _lines is not None:
        _lines.write(line)
    else:  # nobody configured logs: a test, or a tool
        sys.stdout.write(line.decode())


def lost() -> int:
    """How many lines nobody will see."""
    return _lines.lost if _lines is not None else 0


class _Written:
    """What structlog hands its finished lines to."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put

    def msg(self, line: bytes) -> None:
        self._put(line + b"\n")

    debug = info = warning = error = critical = exception = msg


class _FromLibraries(logging.Handler):
    """Libraries log in the standard library's way; their lines look like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        level = max(logging.INFO, min(record.levelno // 10 * 10, logging.CRITICAL))
        _TELL.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _encode(event: Any, **_: Any) -> bytes:
    return msgspec.json.encode(event, enc_hook=str)
