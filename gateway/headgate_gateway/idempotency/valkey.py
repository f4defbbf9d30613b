"""The shared store: a Valkey or Redis server, for any number of gateways.

One task speaks to it. What is asked while it waits for a reply leaves with the next call, all in
one script: the client library costs more than the server does.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, TypeAlias

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from headgate_api.errors import Unavailable
from headgate_gateway.idempotency.store import (
    CLAIMED,
    KEEP,
    LEASE,
    OTHER_BODY,
    Claim,
    Found,
    InWork,
    Outcome,
    decode,
    encode,
)

log = structlog.get_logger(__name__)

PREFIX: Final = b"headgate:idempotency:"
SECONDS: Final = 1.0
"""That the server may take to answer, and to accept a connection."""
AGAIN: Final = 1.0  # s until what failed is tried once more
MOST: Final = 500  # asked at once

# Every operation on one key, in the order asked. Each has its key and four arguments: operation,
# owner, fingerprint, answer. The last arguments of all: lease and keep, in ms.
# A key's fields: f fingerprint, o owner, s since (ms), a answer (absent while in work).
SCRIPT: Final = """
local lease, keep = ARGV[#ARGV - 1], ARGV[#ARGV]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies = {}
for i, key in ipairs(KEYS) do
  local op, owner, fingerprint, answer = unpack(ARGV, 4 * i - 3, 4 * i)
  local held = redis.call('HMGET', key, 'f', 'o', 's', 'a')
  local ours = held[2] == owner and not held[4]
  local reply = false
  if op == 'claim' then
    if not held[1] then
      redis.call('HSET', key, 'f', fingerprint, 'o', owner, 's', now)
      redis.call('PEXPIRE', key, lease)
      reply = 'claimed'
    elseif held[2] == owner then
      reply = 'claimed'
    elseif held[1] ~= fingerprint then
      reply = 'other'
    elseif held[4] then
      reply = {held[4]}
    else
      reply = now - held[3]
    end
  elseif op == 'finish' then
    if ours or not held[1] then
      redis.call('HSET', key, 'f', fingerprint, 'o', owner, 's', now, 'a', answer)
      redis.call('PEXPIRE', key, keep)
    end
  elseif ours and op == 'release' then
    redis.call('DEL', key)
  elseif op == 'renew' and (ours or not held[1]) then
    redis.call('HSET', key, 'f', fingerprint, 'o', owner, 's', held[3] or now)
    redis.call('PEXPIRE', key, lease)
  end
  replies[i] = reply
end
return replies
"""
SHA: Final = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
TERMS: Final = (int(LEASE * 1000), int(KEEP * 1000))


@dataclass(frozen=True, slots=True)
class Op:
    name: bytes
    claim: Claim
    answer: bytes = b""
    found: asyncio.Future[Found] | None = None  # who waits for it


Reply: TypeAlias = bytes | int | list[bytes] | None


class ValkeyStore:
    """See `Store`.

    Args:
        url: `redis://`, `valkey://`, or with TLS `rediss://`, `valkeys://`; may hold a password.
    """

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(  # the client's own types are partly unknown
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
            socket_timeout=SECONDS,
            socket_connect_timeout=SECONDS,
            retry=Retry(NoBackoff(), 1),  # a connection that rested may be stale
        )
        self.file_bytes = 0
        self._ops: list[Op] = []
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._told = ""  # the fault that was logged last

    async def claim(self, claim: Claim) -> Found:
        if self._closed:
            raise Unavailable("the store of Idempotency-Keys is closed")
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._ask(Op(b"claim", claim, found=found))
        return await found

    def renew(self, claims: Collection[Claim]) -> None:
        for claim in claims:
            self._ask(Op(b"renew", claim))

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        self._ask(Op(b"finish", claim, encode(outcome)))

    def release(self, claim: Claim) -> None:
        self._ask(Op(b"release", claim))

    async def close(self) -> None:
        self._closed = True
        self._asked.set()
        if self._task is not None:
            await self._task
        await self._redis.aclose()

    def _ask(self, op: Op) -> None:
        self._ops.append(op)
        self._asked.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._speak())

    async def _speak(self) -> None:
        """Until the end: nobody cancels it, so no reply can reach the wrong caller."""
        while not self._closed or self._ops:
            await self._asked.wait()
            self._asked.clear()
            while self._ops:
                ops, self._ops = self._ops[:MOST], self._ops[MOST:]
                try:
                    replies = await self._call(ops)
                except (RedisError, OSError) as error:
                    self._failed([*ops, *self._ops], error)
                    break
                self._told = ""
                for op, reply in zip(ops, replies, strict=True):
                    if op.found is not None:
                        self._answer(op, op.found, reply)

    async def _call(self, ops: Sequence[Op]) -> list[Reply]:
        keys = [PREFIX + op.claim.key for op in ops]
        values = [
            value
            for op in ops
            for value in (op.name, op.claim.owner, op.claim.fingerprint, op.answer)
        ]
        arguments = (len(keys), *keys, *values, *TERMS)
        try:
            replies: list[Reply] = await self._redis.evalsha(SHA, *arguments)
        except NoScriptError:
            replies = await self._redis.eval(SCRIPT, *arguments)
        return replies

    def _answer(self, op: Op, found: asyncio.Future[Found], reply: Reply) -> None:
        if not found.done():
            found.set_result(read(reply))
        elif reply == b"claimed":  # its task was cancelled: nobody would let go of the key
            self.release(op.claim)

    def _failed(self, ops: Sequence[Op], error: Exception) -> None:
        """Tell who waits. What is over is told to the server later; leases are renewed anyway."""
        if str(error) != self._told:
            self._told = str(error)
            log.error("idempotency store failed", error=self._told)
        later = [op for op in ops if op.name in (b"finish", b"release")]
        for op in ops:
            if op.found is None:
                continue
            # It may have been taken all the same, and only the reply been lost.
            later.append(Op(b"release", op.claim))
            if not op.found.done():
                op.found.set_exception(Unavailable("the store of Idempotency-Keys failed"))
        self._ops = [] if self._closed else later
        asyncio.get_running_loop().call_later(AGAIN, self._asked.set)


def read(reply: Reply) -> Found:
    """Read the script's reply to a claim.

    >>> read(b"claimed"), read(b"other"), read(1500), read([b""])
    (Claimed(), OtherBody(), InWork(age=1.5), NotKept())
    """
    match reply:
        case b"claimed":
            return CLAIMED
        case int():
            return InWork(reply / 1000)
        case [bytes() as answer]:
            return decode(answer)
        case _:
            return OTHER_BODY
