"""What a store knows of an Idempotency-Key, and what it must be able to do with it.

A key is free, in work, or finished. `claim` makes a free one in work, and that is the only way to
it: whoever gets `Claimed` is alone with the key until it says `finish` or `release`, or until its
lease is over because it died.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import msgspec

LEASE: Final = 15.0
"""Seconds after which the claim of a gateway that died is free again."""
KEEP: Final = 86_400.0
"""Seconds for which an outcome is remembered, from its end on."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One request's hold on one key."""

    key: bytes  # digest of tenant, endpoint and key
    fingerprint: bytes  # digest of the body
    owner: str  # the request: nobody else finishes, releases or renews it


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer that began with status 200, as it left; fields are added at the end only."""

    headers: tuple[tuple[bytes, bytes], ...]
    stream: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class NotKept:
    """The request was answered, and the answer was too large to be kept."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The key was free, and is yours."""


@dataclass(frozen=True, slots=True)
class InWork:
    """The same request is being answered."""

    age: float  # s


@dataclass(frozen=True, slots=True)
class OtherBody:
    """The key belongs to a request with another body."""


Outcome: TypeAlias = Kept | NotKept
Found: TypeAlias = Claimed | InWork | OtherBody | Outcome

NOT_KEPT: Final = NotKept()
CLAIMED: Final = Claimed()
OTHER_BODY: Final = OtherBody()

_DECODER: Final = msgspec.msgpack.Decoder(Kept)


def encode(outcome: Outcome) -> bytes:
    """Turn an outcome into what stores keep. Nothing at all stands for `NotKept`."""
    return b"" if isinstance(outcome, NotKept) else msgspec.msgpack.encode(outcome)


def decode(data: bytes) -> Outcome:
    """Inverse of `encode`.

    >>> decode(encode(Kept(((b"content-type", b"text/plain"),), False, b"Hi"))).body
    b'Hi'
    >>> decode(encode(NOT_KEPT))
    NotKept()
    """
    try:
        return _DECODER.decode(data) if data else NOT_KEPT
    except msgspec.MsgspecError:  # of another release: answered it was, all the same
        return NOT_KEPT


class Store(Protocol):
    """Where keys are remembered.

    What one gateway asks happens in the order in which it was asked. Only `claim` makes its caller
    wait. The others return at once: what they ask is done soon, and tried again while it fails.
    """

    file_bytes: int
    """What the store uses of a file of this process."""

    async def claim(self, claim: Claim) -> Found:
        """Take the key if it is free. The claim is durable when this returns.

        A caller that is cancelled meanwhile holds nothing.

        Raises:
            Unavailable: the store could not tell. The key may or may not be in work.
        """
        ...

    def renew(self, claims: Collection[Claim]) -> None:
        """Begin the leases of these claims anew, unless somebody else has taken the key.

        One that the store has forgotten is taken again: a server may have lost its memory.
        """
        ...

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        """Remember the outcome, unless somebody else has taken the key meanwhile."""
        ...

    def release(self, claim: Claim) -> None:
        """Free the key, if it is still held by this claim."""
        ...

    async def close(self) -> None:
        """Finish what was asked, and let go. Claims get `Unavailable` from then on."""
        ...
