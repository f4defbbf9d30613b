"""Stage `identity`: whose key is it?"""

from functools import lru_cache
from hashlib import sha256
from typing import Final

from headgate_gateway.edge.exchange import Head
from headgate_gateway.refusals import PASS, Code, Refusal, Verdict
from headgate_gateway.request import Request
from headgate_gateway.routing.tables import Credential, Tables

NO_POLICY: Final = Refusal(
    Code.POLICY_NOT_LOADED, 503, "The gateway has no policy yet. Try again.", retry_after=2
)
MISSING: Final = Refusal(
    Code.INVALID_API_KEY, 401, "No API key: send it as 'Authorization: Bearer <key>'."
)
UNKNOWN: Final = Refusal(Code.INVALID_API_KEY, 401, "This API key is not valid.")
EXPIRED: Final = Refusal(Code.INVALID_API_KEY, 401, "This API key has expired.")

REMEMBERED: Final = 512
"""Keys whose digests are: to hash one takes longer than all that follows from it."""
LONGEST: Final = 256
"""Bytes of a header that is remembered. Ours are shorter, and anybody may send others."""


def identify(head: Head, tables: Tables, *, loaded: bool, now: float) -> Credential | Refusal:
    """Find whose key a request carries, at `now` s since 1970."""
    if not loaded:
        return NO_POLICY  # not 401: the key may well be right
    authorization = head.headers.get(b"authorization", b"")
    digest = (_known if len(authorization) <= LONGEST else _digest)(authorization)
    if digest is None:
        return MISSING
    credential = tables.keys.get(digest)
    return UNKNOWN if credential is None else in_time(credential, now)


def _digest(authorization: bytes) -> bytes | None:
    """Hash the key. Looked up by digest, the time it takes tells nothing about any key."""
    scheme, _, key = authorization.partition(b" ")
    return sha256(key.strip()).digest() if scheme.lower() == b"bearer" and key else None


_known: Final = lru_cache(REMEMBERED)(_digest)


def in_time(credential: Credential, now: float) -> Credential | Refusal:
    expires_at = credential.expires_at
    return EXPIRED if expires_at is not None and now >= expires_at else credential


class Identity:
    name = "identity"
    undecided = NO_POLICY
    budget = 1.0

    def decide(self, request: Request) -> Verdict:
        found = identify(request.head, request.tables, loaded=request.loaded, now=request.now)
        if isinstance(found, Refusal):
            return found
        request.credential = found
        return PASS
