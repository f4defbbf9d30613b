"""Takes down what is kept of a request that has ended."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec

from headgate_gateway.calls.events import Usage
from headgate_gateway.explain.explanation import Segments
from headgate_gateway.explain.kept import Decided, Own, Record
from headgate_gateway.request import Request
from headgate_gateway.routing.decision import Decision
from headgate_gateway.routing.stage import Stage, Why
from headgate_gateway.streaming.watch import Watch

CLIP: Final = 64
"""Characters of a value that a client wrote: enough to see why a rule matched, and no text."""
ITEMS: Final = 16
"""Of a list or a mapping of such values."""
LONGEST: Final = 1024
"""Bytes of what a policy decided that are kept as they are."""

Words: TypeAlias = dict[str, Any]


def record(request: Request, watch: Watch | None, line: bytes) -> Record:
    """Take down what a request came to.

    Args:
        request: as it was left.
        watch: what was seen of its stream.
        line: the log's.
    """
    timeline, deadline = request.timeline, getattr(request, "deadline", None)
    task, allowance = getattr(request, "task", None), request.allowance
    own = (
        request.id,
        timeline.started,
        None if deadline is None else deadline.ends_at,
        None if deadline is None else deadline.source,
        None if task is None else task.sampling.max_tokens,
        None if allowance is None else allowance.limits.max_total_tokens,
        None if allowance is None or allowance.tokens is None else allowance.used,
    )
    ended = timeline.started if timeline.ended is None else timeline.ended
    decided = _packed(request, watch)
    return Record(ended, _ENCODER.encode(own), "", (), line, request.route, decided)


def usual_record(
    request: Request,
    watch: Watch | None,
    usage: Usage,
    *,
    common: str,
    names: tuple[str, ...],
    now: float,
) -> Record:
    """Take down what one came to whose line of the log `usual` can write again.

    Args:
        request: it was answered.
        watch: what was seen of its stream.
        usage: of its answer.
        common: what its line has in common with others.
        names: of its stages, as all others have them.
        now: s since 1970, when it ended.
    """
    timeline, deadline, allowance = request.timeline, request.deadline, request.allowance
    ended = timeline.ended
    assert ended is not None  # noqa: S101 - it was told
    own = (
        request.id,
        timeline.started,
        deadline.ends_at,
        deadline.source,
        request.task.sampling.max_tokens,
        None if allowance is None else allowance.limits.max_total_tokens,
        None if allowance is None or allowance.tokens is None else allowance.used,
        timeline.first_text,
        now,
        request.trace.hex,
        timeline.attempts[0].pod,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        timeline.seconds,
    )
    decided, packed = _packed(request, watch), _ENCODER.encode(own)
    return Record(ended, packed, common, names, b"", request.route, decided)


def _packed(request: Request, watch: Watch | None) -> bytes:
    decision = request.decision
    if decision is None:
        return b""
    alone = request.plan is None and len(decision.stages) == 1
    if alone and watch is None and not decision.words and not decision.errors:
        (stage,) = decision.stages
        if stage.speculation is None:
            return _packed_alone(decision.rule, stage.route, stage.model, stage.variants, stage.why)
    return packed(decided(decision, watch, request.timeline.started))


@lru_cache(1024)
def _packed_alone(rule: int, route: str, model: str, variants: tuple[str, ...], why: Why) -> bytes:
    """Pack what is the same for all that take a route to a target, and is shared by all of them."""
    stage = Stage(route=route, model=model, variants=variants, why=why)
    return packed(Decided(rule, {}, {}, [stage], None))


def decided(decision: Decision, watch: Watch | None = None, started: float = 0.0) -> Decided:
    """Take down a decision, and what was seen of the stream that was asked for at `started`."""
    segments = None if watch is None else _segments(watch, started)
    return Decided(decision.rule, decision.errors, decision.words, decision.stages, segments)


def packed(found: Decided) -> bytes:
    """Pack it. Values are cut only where that is needed: it takes longer than all the rest."""
    whole = _ENCODER.encode(found)
    if len(whole) <= LONGEST:
        return whole
    found.words = clipped(found.words)
    return _ENCODER.encode(found)


def _segments(watch: Watch, started: float) -> Segments:
    return Segments(
        count=watch.segments,
        ending=watch.ending,
        first_ms=None if watch.first is None else round((watch.first - started) * 1000, 3),
        longest_gap_ms=None if watch.segments < 2 else round(watch.longest * 1000, 3),
        causes=watch.causes,
        retracts=watch.retracted,
        asserts=watch.asserted,
    )


def clipped(words: Mapping[str, object]) -> Words:
    """Shorten what clients wrote.

    >>> len(clipped({"request.headers": {"x-plan": 100 * "p"}})["request.headers"]["x-plan"])
    67
    """
    return {name: _clip(value) for name, value in words.items()}


def _clip(value: object) -> object:
    match value:
        case str():
            return value if len(value) <= CLIP else f"{value[:CLIP]}..."
        case Mapping():
            return {name: _clip(item) for name, item in list(value.items())[:ITEMS]}
        case list() | tuple():
            return [_clip(item) for item in value[:ITEMS]]
        case _:
            return value


_ENCODER: Final = msgspec.msgpack.Encoder()
DECIDED: Final = msgspec.msgpack.Decoder(Decided)
OWN: Final = msgspec.msgpack.Decoder(Own)
