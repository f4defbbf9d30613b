"""The exchange of a request that has a key: what leaves through it is noted for whoever asks again.

What began with status 200 is kept, whatever its end: it was charged. A refusal lets go of the key,
so that the client's next try runs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, final

from headgate_gateway.edge.errors import error_event
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.idempotency.store import NOT_KEPT, Claim, Kept, Outcome
from headgate_gateway.refusals import Code, Refusal

OURS: Final = b"x-headgate-"
KEPT_HEADERS: Final = (b"content-type", b"cache-control", b"x-accel-buffering")
"""With ours, what is as true of a replay. Ids, timings and limits are not."""
STAGE: Final = b"x-headgate-stage"  # is ours, but not true: another one gives the replay
PIECE: Final = 64 * 1024
INTERRUPTED: Final = error_event(
    Refusal(Code.INTERNAL_ERROR, 500, "The answer to this request was not completed.")
)
REPLAYED: Final = b"idempotency-replayed: true\r\n"


@dataclass(slots=True)
class Room:
    """Memory for answers that are being noted, and how much of it one may take."""

    one: int  # bytes
    all: int  # bytes
    used: int = 0


Settle = Callable[[Claim, Outcome | None], None]


@final
class Recording:
    """See `Exchange`. Tells `settle` the outcome once; None: the answer was a refusal."""

    __slots__ = (
        "_claim", "_exchange", "_headers", "_kept", "_pieces", "_room", "_settle", "_settled",
        "_size", "_stream", "body", "head", "id",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, claim: Claim, room: Room, settle: Settle) -> None:
        self.id = exchange.id
        self.head = exchange.head
        self.body = exchange.body
        self._exchange = exchange
        self._claim = claim
        self._room = room
        self._settle = settle
        self._settled = False
        self._kept = False
        self._stream = False
        self._headers: tuple[tuple[bytes, bytes], ...] = ()
        self._pieces: list[bytes] = []
        self._size = 0  # bytes; -1: more than may be kept

    @property
    def started(self) -> bool:
        return self._exchange.started

    @property
    def closed(self) -> bool:
        return self._settled

    def detach(self) -> None:
        self._exchange.detach()

    def start(self, status: int, headers: bytes, length: int | None = None) -> None:
        self._kept = status == 200
        self._stream = length is None
        self._headers = tuple(_kept(headers))
        self._exchange.start(status, headers, length)

    @property
    def full(self) -> bool:
        return self._exchange.full

    def write(self, data: bytes) -> None:
        self._note(data)
        self._exchange.write(data)

    async def send(self, data: bytes) -> None:
        self._note(data)
        await self._exchange.send(data)

    def finish(self, data: bytes = b"") -> None:
        self._note(data)
        self._exchange.finish(data)
        self.settle()

    def abort(self) -> None:
        self._exchange.abort()
        self.settle(INTERRUPTED)

    def settle(self, ending: bytes = b"") -> None:
        """Tell the outcome, if that is not done. `ending` is put behind a stream that has none."""
        if self._settled:
            return
        if self._stream:
            self._note(ending)
        self._settled = True
        outcome: Outcome | None = None
        if self._kept and self._size >= 0:
            outcome = Kept(self._headers, self._stream, b"".join(self._pieces))
        elif self._kept:
            outcome = NOT_KEPT
        self._forget()
        self._settle(self._claim, outcome)

    def _note(self, data: bytes) -> None:
        if not self._kept or self._size < 0 or self._settled:
            return
        self._size += len(data)
        self._room.used += len(data)
        self._pieces.append(data)
        if self._size > self._room.one or self._room.used > self._room.all:
            self._forget()
            self._size = -1

    def _forget(self) -> None:
        self._room.used -= max(0, self._size)
        self._pieces = []


def _kept(headers: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in headers.splitlines():
        name, _, value = line.partition(b": ")
        if name in KEPT_HEADERS or (name.startswith(OURS) and name != STAGE):
            yield name, value


async def replay(exchange: Exchange, answer: Kept, more: bytes) -> None:
    """Give an answer once more: a plain one plain, a stream as a stream, the same bytes.

    `more`: header lines that are true of this time.
    """
    headers = b"".join(b"%s: %s\r\n" % header for header in answer.headers)
    headers += b"%sx-request-id: %s\r\n%s" % (REPLAYED, exchange.id.encode(), more)
    body = answer.body
    if not answer.stream:
        exchange.start(200, headers, length=len(body))
    else:
        exchange.start(200, headers)
        while len(body) > PIECE:
            await exchange.send(body[:PIECE])
            body = body[PIECE:]
    exchange.finish(body)
