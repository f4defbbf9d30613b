"""W3C trace context: what a client sends, what model servers get, and who is sampled.

Every request has a trace, exported or not: its id stands in the access log, and model servers get
it, so that their spans and logs can be found by it. Ids come from a generator that was seeded once:
they must be unique, not secret, and asking the kernel for chance costs a tenth of a request.

The tracestate is passed on as it came, and only together with a traceparent that is good.

Source: https://www.w3.org/TR/trace-context-2/
"""

import re
from collections.abc import Mapping
from math import ceil
from random import Random
from typing import Final, final

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""The last seven bytes of the trace's id are random: others may sample by them."""
LONGEST_STATE: Final = 512
"""Bytes of tracestate to pass on: so much must be carried, more need not."""
MOST_MEMBERS: Final = 32

# Version 00 ends after the flags. Of later ones, these four fields may be read.
_PARENT: Final = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})"
    rb"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_MEMBER: Final = re.compile(
    rb"([a-z0-9][a-z0-9_\-*/@]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_RANDOM_BITS: Final = 56
_RANDOM_MASK: Final = (1 << _RANDOM_BITS) - 1
_chance: Final = Random()  # noqa: S311 - ids are no secrets


@final
class Trace:
    """A request's place in its trace."""

    __slots__ = ("flags", "hex", "parent_id", "span_id", "state", "trace_id")

    def __init__(
        self, trace_id: int, span_id: int, parent_id: int, flags: int, state: bytes = b""
    ) -> None:
        self.trace_id = trace_id
        self.hex = trace_id.to_bytes(16).hex()  # half of the time that a number's format takes
        """Its id, as it is written."""
        self.span_id = span_id
        """Of the span that stands for the request here."""
        self.parent_id = parent_id
        """Of the client's span; 0: it sent none."""
        self.flags = flags  # 0 to 3
        self.state = state
        """The client's tracestate."""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    def lines(self, span_id: int) -> bytes:
        r"""Header lines for a model server whose caller is the span `span_id`.

        >>> Trace(trace_id=0xA, span_id=0xB, parent_id=0, flags=1).lines(0xC)
        b'traceparent: 00-0000000000000000000000000000000a-000000000000000c-01\r\n'
        """
        span = span_id.to_bytes(8).hex()
        parent = f"traceparent: 00-{self.hex}-{span}-0{self.flags}\r\n".encode()
        return parent + b"tracestate: %s\r\n" % self.state if self.state else parent


def new_span_id() -> int:
    return _chance.getrandbits(64) or 1


@final
class Sampler:
    """Decides once, at the beginning: model servers are told, and hold to it."""

    __slots__ = ("_least", "follow", "ratio")

    def __init__(self, ratio: float = 0.01, follow: bool = True) -> None:
        self.ratio = ratio  # of the traces that begin here
        self.follow = follow  # what a client decided holds for its request
        self._least = ceil((1.0 - ratio) * (1 << _RANDOM_BITS))
        """Of the random bits of a trace that is sampled."""

    def begin(self, headers: Mapping[bytes, bytes]) -> Trace:
        """Go on with the client's trace, or begin a new one."""
        given = headers.get(b"traceparent")
        match = _PARENT.fullmatch(given) if given is not None else None
        if match is None or (match["version"] == b"00" and match["more"] is not None):
            return self._new()
        trace_id, parent_id = int(match["trace"], 16), int(match["span"], 16)
        if not trace_id or not parent_id:
            return self._new()
        flags = int(match["flags"], 16) & (RANDOM | SAMPLED)  # others are not ours to pass on
        if not self.follow:
            flags = flags & RANDOM | self._sample(trace_id)
        state = _state(headers.get(b"tracestate", b""))
        return Trace(trace_id, new_span_id(), parent_id, flags, state)

    def _new(self) -> Trace:
        trace_id = _chance.getrandbits(128) or 1
        return Trace(trace_id, new_span_id(), 0, RANDOM | self._sample(trace_id))

    def _sample(self, trace_id: int) -> int:
        """Decide by the trace's id: all gateways that see it come to the same answer."""
        return SAMPLED if trace_id & _RANDOM_MASK >= self._least else 0


def _state(given: bytes) -> bytes:
    """Return a tracestate as it may be passed on; empty, if it is not one.

    Of one that is too long, whole members are dropped from its end: the oldest ones.
    """
    members: list[bytes] = []
    keys: set[bytes] = set()
    for piece in given.split(b","):
        member = piece.strip(b" \t")
        if not member:
            continue  # allowed: lines that were joined may have been empty
        match = _MEMBER.fullmatch(member)
        if match is None or match[1] in keys:
            return b""
        keys.add(match[1])
        members.append(member)
    if len(members) > MOST_MEMBERS:
        return b""
    while members and sum(map(len, members)) + len(members) - 1 > LONGEST_STATE:
        members.pop()
    return b",".join(members)
