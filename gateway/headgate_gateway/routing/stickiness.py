"""A session's side of a weighted split, without remembering any session. Pure.

Weighted rendezvous hashing: every target draws a number from the session's key, and the smallest
one wins. Every gateway draws the same, also after a restart; a target that is not ready is left
out, and its sessions return to it. When weights change, only the share moves that must.

A session draws anew whenever a `ttl` is over, each at a time of its own: so a split drifts to new
weights and recovered targets without a moment at which all sessions move. How long one session
stays is thus `ttl` at most, as nobody knows when it began.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, TypeVar

from headgate_api.snapshot import StickinessBody
from headgate_gateway.request import Request
from headgate_gateway.routing.features import user

LONGEST: Final = 256
"""Bytes of a session's header that matter."""
SPACE: Final = 2.0**64
T = TypeVar("T")


def sticky_key(stickiness: StickinessBody, request: Request) -> bytes | None:
    """Find what stands for the session. None: there is nothing, and chance decides.

    A key is the tenant's own: nobody can find out, or take, the side of another tenant's session.
    """
    credential = request.credential
    match stickiness.key:
        case "Session":
            own = (request.head.get(stickiness.header.encode()) or b"")[:LONGEST]
        case "User":
            own = user(request).encode()
        case "Tenant":
            own = b"-"
        case "None":
            return None
    return b"%s\0%s" % (credential.tenant.name.encode(), own) if own else None


def turn(key: bytes, now: float, ttl: float) -> bytes:
    """Extend a key by the number of its turn: `ttl` s long, and begun at a time of its own.

    >>> len({turn(b"a session", now, 60.0) for now in range(600)})
    11
    """
    begins = _draw(key) * ttl
    return b"%s\0%d" % (key, (now + begins) // ttl)


def choose(key: bytes, targets: Sequence[tuple[T, str, int]]) -> T:
    """Choose one of the targets, each with its share of all keys.

    Args:
        key: of the session, and of the place where the choice is made.
        targets: at least one; with its name, and its weight above 0.

    >>> choose(b"session 7", [("one", "one", 1), ("other", "other", 0)])
    'one'
    """
    best, chosen = math.inf, targets[0][0]
    for target, name, weight in targets:
        if weight > 0:
            # Exponential with rate `weight`: the smallest is this one's with its share.
            drawn = -math.log(_draw(b"%s\0%s" % (key, name.encode()))) / weight
            if drawn < best:
                best, chosen = drawn, target
    return chosen


def falls(key: bytes, percent: int) -> bool:
    """Tell whether a key is among that percent of all keys. It stays among any larger percent.

    >>> falls(b"session 7", 0), falls(b"session 7", 100)
    (False, True)
    """
    return 100 * _draw(key) <= percent


def _draw(key: bytes) -> float:
    """Return a number in (0, 1], always the same for a key."""
    return (int.from_bytes(blake2b(key, digest_size=8).digest()) + 1) / SPACE
