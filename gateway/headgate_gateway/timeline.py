"""When what happened to a request. Everything told about it later is read from here.

Times are in s on the event loop's clock. Nothing is computed while the request is served: spans,
histograms, `Server-Timing` and the access log are made of these numbers afterwards.
"""

from msgspec import Struct

from headgate_api.snapshot import Cohort
from headgate_gateway.calls.events import Usage


class Attempt(Struct):
    """One try against one model server."""

    pod: str
    cohort: Cohort
    hedge: bool  # asked while another one was still silent
    started: float
    first_text: float | None = None
    ended: float | None = None  # None: still running
    span: int = 0  # its id in the trace: what the model server was told is its caller
    ejected: bool = False  # the pod gets no more requests for a while
    model: str = ""  # ModelDeployment; empty: the request's
    granted: int = 0  # tokens that it could write, of an allowance
    usage: Usage | None = None  # None: the request's, or nothing was written
    result: str = ""
    """`ok`; a reason code; or `cancelled` with the request, `hedge_lost` to the other one, `stale`:
    the connection had rested for too long, which says nothing about the pod."""


class Timeline(Struct):
    """Filled in as the request goes on."""

    started: float
    stages: list[tuple[str, float]] = []
    """Name and end of each stage; it began when the one before ended."""
    waits: str = ""
    """Name of the stage that it waits for, or last waited for. Others take no time to be seen."""
    attempts: list[Attempt] = []
    first_text: float | None = None
    """When the first text could be sent to the client."""
    left: float | None = None
    """When the client was seen to have left, before its answer was complete."""
    ended: float | None = None
