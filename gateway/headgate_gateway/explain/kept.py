"""What is kept of a request that has ended, so that it can be explained later.

Bytes and numbers, and no object of the request's own: nothing of it stays alive. That is also what
costs least. The log's line has been made anyway. A record takes 1 KB and gives the garbage
collector next to nothing to walk through; the objects behind it would take 2 KB.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate_gateway.calls.deadline import Deadline
from headgate_gateway.explain.explanation import Segments
from headgate_gateway.routing.routes import Route
from headgate_gateway.routing.stage import Stage


class Record(msgspec.Struct, frozen=True, gc=False):
    id: str
    started: float
    """s on the event loop's clock; so is the next one."""
    ended: float
    line: bytes
    """The log's: `Facts` as JSON."""
    deadline: Deadline | None
    max_tokens: int | None
    """What the model was allowed to generate; None: it was not come to that."""
    max_total_tokens: int | None
    """What one request of the tenant may use; None: there is no limit."""
    used_tokens: int | None
    """Of it; None: as before."""
    route: Route | None
    """The policy. Shared by all that it decided about."""
    decided: bytes
    """What it decided: `Decided` in msgpack. Empty where there is no policy."""


class Decided(msgspec.Struct, array_like=True):
    """A `Decision` without its policy and without anything long."""

    rule: int
    errors: Mapping[int, str]
    words: Mapping[str, Any]
    stages: list[Stage]
    segments: Segments | None
