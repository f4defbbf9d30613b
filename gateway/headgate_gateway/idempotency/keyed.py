"""Requests with an Idempotency-Key: each key is answered, and charged, once.

The key belongs to a tenant and an endpoint, and to the body that it came with first. While its
request is in work, another one with the same key is told to wait; later it gets the same answer
again. Where the store cannot tell, nothing is run: what may run twice must not run.
"""

import asyncio
from hashlib import sha256
from time import monotonic
from typing import Final, TypeAlias, assert_never

from headgate_api.errors import Unavailable
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.idempotency.recording import INTERRUPTED, Recording, Room
from headgate_gateway.idempotency.store import (
    LEASE,
    Claim,
    Claimed,
    Found,
    InWork,
    Kept,
    NotKept,
    OtherBody,
    Outcome,
    Store,
)
from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.waking import in_task

HEADER: Final = b"idempotency-key"
LONGEST: Final = 255
PATIENCE: Final = 5.0  # s for the store to take a claim
SHORTEST_WAIT: Final = 0.25  # s
LONGEST_WAIT: Final = 15.0  # s

INVALID: Final = Refusal(
    Code.INVALID_IDEMPOTENCY_KEY,
    400,
    f"An Idempotency-Key has 1 to {LONGEST} printable ASCII characters.",
)
OFF: Final = Refusal(
    Code.IDEMPOTENCY_OFF,
    400,
    "This gateway keeps no Idempotency-Keys. Send none, or ask its operators for a store.",
)
UNAVAILABLE: Final = Refusal(
    Code.IDEMPOTENCY_UNAVAILABLE,
    503,
    "The store of Idempotency-Keys does not answer, so nothing was run.",
    retry_after=2,
)
REUSED: Final = Refusal(
    Code.IDEMPOTENCY_KEY_REUSED, 422, "This Idempotency-Key came with another body before."
)
NOT_KEPT: Final = Refusal(
    Code.IDEMPOTENT_ANSWER_NOT_KEPT,
    410,  # as clients do not try again
    "This request was answered before, and the answer was too large to be kept.",
)


Entered: TypeAlias = Exchange | Refusal | Kept


def key_fault(key: bytes) -> bool:
    r"""Say whether a key is none.

    >>> [key_fault(key) for key in (b"", b"order 7", b"order\t7", b"\xc3\xa4", b"x" * 256)]
    [True, False, True, True, True]
    """
    return not 1 <= len(key) <= LONGEST or not key.isascii() or not key.decode().isprintable()


def digest(tenant: str, endpoint: str, key: bytes) -> bytes:
    """Name a key among all of all tenants. None of the parts can hold the mark between them."""
    return sha256(b"\0".join((tenant.encode(), endpoint.encode(), key))).digest()


def no(found: InWork | OtherBody | NotKept) -> tuple[str, Refusal]:
    """Say why the request is not run, in a word for the metric and to the client.

    Who finds it in work is told to wait as long as it has been in work already: so few clients ask
    often, and none long after the end.
    """
    match found:
        case InWork(age):
            wait = min(max(age, SHORTEST_WAIT), LONGEST_WAIT)
            sentence = "A request with this Idempotency-Key is in work. Ask again for its answer."
            return "in_use", Refusal(Code.IDEMPOTENCY_KEY_IN_USE, 409, sentence, retry_after=wait)
        case OtherBody():
            return "reused", REUSED
        case NotKept():
            return "not_kept", NOT_KEPT


def leave(exchange: Exchange) -> None:
    """Say that nothing more is written, however the handler ended.

    A key that nobody lets go of would be held for as long as the process lives.
    """
    if isinstance(exchange, Recording):
        exchange.settle(INTERRUPTED)


class Idempotency:
    """What the handlers of all POSTs ask first.

    Args:
        store: where keys are remembered; None: nowhere, and requests with a key are refused.
        metrics: told of everything.
        room: memory for answers while they are given.
    """

    def __init__(self, store: Store | None, metrics: Metrics, room: Room) -> None:
        self._store = store
        self._room = room
        self._held: dict[str, Claim] = {}  # by owner
        self._timer: asyncio.TimerHandle | None = None
        self._requests = metrics.idempotency_requests
        self._refusals = metrics.refusals
        self._outcomes = metrics.idempotency_outcomes
        self._seconds = metrics.idempotency_claim_seconds.of()

    @property
    def held(self) -> int:
        """Keys in work here."""
        return len(self._held)

    @property
    def file_bytes(self) -> int:
        return self._store.file_bytes if self._store is not None else 0

    async def enter(self, tenant: str, endpoint: str, exchange: Exchange) -> Entered:
        """Find out what to do with a request.

        Args:
            tenant: whose key it is, unique in the region.
            endpoint: path of the URL.
            exchange: the request.

        Returns:
            The exchange to answer through: another one, if the request has a key, which is to be
            given to `leave` at the end. Or a refusal, or an answer to be given once more.
        """
        key = exchange.head.headers.get(HEADER)
        if key is None:
            return exchange
        if key_fault(key):
            return self._refused("invalid", INVALID)
        if self._store is None:
            return self._refused("off", OFF)
        claim = Claim(digest(tenant, endpoint, key), sha256(exchange.body).digest(), exchange.id)
        # From here on a client that leaves cancels nothing: its next try finds the outcome.
        exchange.detach()
        started = monotonic()  # the loop's clock has no microseconds
        await in_task()
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._store.claim(claim)
        except (TimeoutError, Unavailable):
            return self._refused("unavailable", UNAVAILABLE)
        self._seconds.observe(monotonic() - started)
        return self._act(found, claim, exchange)

    async def close(self) -> None:
        """Write down what is finished."""
        if self._timer is not None:
            self._timer.cancel()
        if self._store is not None:
            await self._store.close()

    def _act(self, found: Found, claim: Claim, exchange: Exchange) -> Entered:
        match found:
            case Claimed():
                self._requests.of("claimed").add()
                return self._record(claim, exchange)
            case Kept():
                self._requests.of("replayed").add()
                return found
            case InWork() | OtherBody() | NotKept():
                return self._refused(*no(found))
            case _:
                assert_never(found)

    def _record(self, claim: Claim, exchange: Exchange) -> Recording:
        recording = Recording(exchange, claim, self._room, self._settle)
        self._held[claim.owner] = claim
        if self._timer is None:
            self._watch()
        return recording

    def _settle(self, claim: Claim, outcome: Outcome | None) -> None:
        assert self._store is not None  # noqa: S101 - it gave the claim
        del self._held[claim.owner]
        match outcome:
            case None:
                self._store.release(claim)
                self._outcomes.of("released").add()
            case Kept():
                self._store.finish(claim, outcome)
                self._outcomes.of("kept").add()
            case NotKept():
                self._store.finish(claim, outcome)
                self._outcomes.of("too_large").add()

    def _refused(self, result: str, refusal: Refusal) -> Refusal:
        self._requests.of(result).add()
        self._refusals.of("idempotency", refusal.code).add()
        return refusal

    def _watch(self) -> None:
        """Renew all leases together, while there are any."""
        self._timer = asyncio.get_running_loop().call_later(LEASE / 3, self._renew)

    def _renew(self) -> None:
        self._timer = None
        if self._held and self._store is not None:
            self._store.renew(self._held.values())
            self._watch()
