"""One absolute deadline per request: the earliest of what the policy and the client say.

It is fixed when the request arrives. Everything that follows, retries included, happens within it,
and every model server is told how much of it is left.
"""

import re
from collections.abc import Mapping
from typing import Final, final

from headgate_api.snapshot import DeadlineBody
from headgate_gateway.calls.events import Failed
from headgate_gateway.refusals import Code, Refusal

EXCEEDED: Final = Failed(Refusal(Code.DEADLINE_EXCEEDED, 504, "The time for this request is over."))
TOO_SHORT: Final = Failed(
    Refusal(
        Code.DEADLINE_EXCEEDED,
        504,
        "The time that is left is less than this model usually takes; nothing was generated.",
    )
)
LONGEST: Final = 86_400.0
"""s. Longer ones mean no limit."""
SHARE: Final = 0.1
"""Of a client's short deadline, kept back for the ending where the policy's reserve is more."""
_GRPC: Final = re.compile(rb"(\d{1,8})([HMSmun])")
_GRPC_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MILLISECONDS: Final = re.compile(rb"\d{1,12}")
_SECONDS: Final = re.compile(rb"\d{1,8}(\.\d{1,9})?")
SILENCE: Final = b"x-stainless-read-timeout"


@final
class Deadline:
    """When what must have happened; times are on the event loop's clock.

    Args:
        ends_at: the answer's last byte is sent.
        stop_at: the model is stopped: what is left is for ending gracefully.
        first_segment: s that an attempt may take to its first text.
        idle_token: s between two pieces of text.
        beat: s of silence after which the client needs a sign of life.
        source: who set it: `policy`, or the client's header.
        background: nobody waits for the answer.
    """

    __slots__ = (
        "background",
        "beat",
        "ends_at",
        "first_segment",
        "idle_token",
        "source",
        "stop_at",
    )

    def __init__(
        self,
        *,
        ends_at: float,
        stop_at: float,
        first_segment: float,
        idle_token: float,
        beat: float,
        source: str,
        background: bool,
    ) -> None:
        self.ends_at = ends_at
        self.stop_at = stop_at
        self.first_segment = first_segment
        self.idle_token = idle_token
        self.beat = beat
        self.source = source
        self.background = background


def deadline(
    policy: DeadlineBody,
    headers: Mapping[bytes, bytes],
    now: float,
    *,
    stream: bool,
    beat: float = LONGEST,
) -> Deadline | Refusal:
    """Find a request's deadline.

    Args:
        policy: the route's.
        headers: of the client's request, names in lower case.
        now: when the request arrived.
        stream: the client reads while the model writes. `x-stainless-read-timeout` is then how
            long it bears silence, otherwise how long it waits for the whole answer.
        beat: s of silence after which the route gives a sign of life.
    """
    seconds, source = (policy.stream if stream else policy.total), "policy"
    for name, reader in () if _NAMES.isdisjoint(headers) else _READERS:
        value = headers.get(name)
        if value is None:
            continue
        given = reader(value)
        if given is None:
            if name == SILENCE:
                continue  # the SDK's own word: its user has not written it
            said = f"The header {name.decode()} is {value[:32].decode('ascii', 'replace')!r}"
            return Refusal(Code.INVALID_VALUE, 400, f"{said}; {_SHAPES[name]}.")
        if name == SILENCE and stream:
            beat = min(beat, max(0.1, given / 3))
        elif given < seconds:
            seconds, source = given, name.decode()
    reserve = min(policy.reserve, seconds * SHARE) if source != "policy" else policy.reserve
    return Deadline(
        ends_at=now + seconds,
        stop_at=now + seconds - reserve,
        first_segment=policy.first_segment,
        idle_token=policy.idle_token,
        beat=beat,
        source=source,
        background=policy.background,
    )


def _milliseconds(value: bytes) -> float | None:
    return int(value) / 1000 if _MILLISECONDS.fullmatch(value) else None


def _seconds(value: bytes) -> float | None:
    return float(value) if _SECONDS.fullmatch(value) else None


def _grpc(value: bytes) -> float | None:
    found = _GRPC.fullmatch(value)
    return int(found[1]) * _GRPC_UNITS[found[2]] if found else None


_SHAPES: Final = {
    b"x-request-timeout-ms": "write whole milliseconds, such as 1500",
    b"grpc-timeout": "write at most 8 digits and one of H, M, S, m, u, n, such as 1500m",
    b"x-envoy-expected-rq-timeout-ms": "write whole milliseconds, such as 1500",
}
_READERS: Final = (
    (b"x-request-timeout-ms", _milliseconds),
    (b"grpc-timeout", _grpc),
    (b"x-envoy-expected-rq-timeout-ms", _milliseconds),
    (SILENCE, _seconds),
)
_NAMES: Final = frozenset(name for name, _ in _READERS)
