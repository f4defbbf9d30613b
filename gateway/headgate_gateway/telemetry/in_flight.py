"""Requests that are in work now, for whoever wonders what a gateway is busy with.

Names, numbers and times, never what a client wrote. Made when somebody asks: requests pay nothing.
"""

from collections import Counter
from collections.abc import Mapping
from heapq import nsmallest
from typing import Final

import msgspec

from headgate_gateway.request import Request

MOST: Final = 500
"""Requests that are told one by one, the oldest first."""
CALL: Final = "call"
"""The stage of those that are at a model server, or wait for their next try."""


class InFlight(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request."""

    id: str
    trace_id: str
    stage: str
    age_s: float
    tenant: str | None = None
    namespace: str | None = None
    model: str | None = None
    route: str | None = None
    pod: str | None = None
    """Of the newest attempt."""
    attempt: int = 0
    hedge: bool = False
    first_text_s: float | None = None
    """After how long its first text came; missing: none has come."""
    deadline_left_s: float | None = None


class Report(msgspec.Struct, kw_only=True):
    """Answer of `GET /debug/requests`."""

    total: int
    by_stage: dict[str, int]
    oldest: list[InFlight]


def in_flight(requests: Mapping[str, Request], now: float) -> bytes:
    """Report on `requests`, which are in work `now`, on the loop's clock."""
    found = list(requests.values())
    report = Report(
        total=len(found),
        by_stage=dict(Counter(_stage(request) for request in found)),
        oldest=[
            _tell(request, now)
            for request in nsmallest(MOST, found, key=lambda request: request.timeline.started)
        ],
    )
    return msgspec.json.encode(report)


def _stage(request: Request) -> str:
    timeline = request.timeline
    return CALL if timeline.attempts else timeline.waits


def _tell(request: Request, now: float) -> InFlight:
    timeline = request.timeline
    told = InFlight(
        id=request.id,
        trace_id=request.trace.hex,
        stage=_stage(request),
        age_s=round(now - timeline.started, 3),
    )
    credential = getattr(request, "credential", None)
    if credential is not None:
        told.tenant = credential.tenant.name
    model = getattr(request, "model", None)
    if model is not None:
        told.namespace, told.model = model.identity.namespace, model.identity.name
        told.route = request.label if request.route is not None else None
    if timeline.attempts:
        newest = timeline.attempts[-1]
        told.pod, told.hedge = newest.pod, newest.hedge
        told.attempt = len(timeline.attempts)
    if timeline.first_text is not None:
        told.first_text_s = round(timeline.first_text - timeline.started, 3)
    deadline = getattr(request, "deadline", None)
    if deadline is not None:
        told.deadline_left_s = round(deadline.ends_at - now, 3)
    return told
