"""What is kept of a request that has ended, so that it can be explained later.

Bytes, and what is shared by many: nothing of a request stays alive. Of one that went as nearly all
do, its own numbers are kept, 0.35 KB, and its line of the log is written anew when somebody asks;
the line itself would take twice as much, and the objects behind it five times. There is nothing for
the garbage collector to walk through.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate_gateway.explain.explanation import Segments
from headgate_gateway.routing.routes import Route
from headgate_gateway.routing.stage import Stage


class Record(msgspec.Struct, frozen=True, gc=False):
    ended: float
    """s on the event loop's clock."""
    own: bytes
    """`Own` in msgpack."""
    common: str
    """Members of the log's line, as JSON has them, that many requests share. Empty: see `line`."""
    names: tuple[str, ...]
    """Of the stages that they may come to."""
    line: bytes
    """The log's: `Facts` as JSON. Empty where there is `common`."""
    route: Route | None
    """The policy. Shared by all that it decided about."""
    decided: bytes
    """What it decided: `Decided` in msgpack. Empty where there is no policy."""


class Own(msgspec.Struct, array_like=True):
    """What no two requests share. From `first_text` on, what a line of the log is made of."""

    id: str
    started: float
    """s on the event loop's clock."""
    ends_at: float | None
    """As `started`: its deadline. None: it was not come to that; so are the next ones."""
    set_by: str | None
    max_tokens: int | None
    """What the model was allowed to generate."""
    max_total_tokens: int | None
    """What one request of the tenant may use; None: there is no limit."""
    used_tokens: int | None
    """Of it; None: as before."""
    first_text: float = 0.0
    now: float = 0.0
    """s since 1970, when it ended."""
    trace: str = ""
    pod: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    stages: list[float] = []
    """s that each took."""


class Decided(msgspec.Struct, array_like=True):
    """A `Decision` without its policy and without anything long."""

    rule: int
    errors: Mapping[int, str]
    words: Mapping[str, Any]
    stages: list[Stage]
    segments: Segments | None
