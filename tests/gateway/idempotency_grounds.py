"""Stores of both kinds for tests, with time that passes when a test says so."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from headgate_gateway.idempotency.sqlite import SqliteStore
from headgate_gateway.idempotency.store import Store
from headgate_gateway.idempotency.valkey import ValkeyStore

MOST_BYTES = 4 * 1024 * 1024


class Ground(ABC):
    """Where keys lie; `store` is one gateway's way to them."""

    store: Store

    @abstractmethod
    async def later(self, seconds: float) -> None:
        """Let time pass, for the keys."""

    @abstractmethod
    async def restart(self) -> None:
        """Let the gateway end and another one begin, which finds the same keys."""

    async def close(self) -> None:
        await self.store.close()


class OnSqlite(Ground):
    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.now = 1_800_000_000.0
        self.path = folder / "idempotency" / "keys.db"
        self.most_bytes = most_bytes
        self.store = self.open()

    def open(self) -> SqliteStore:
        return SqliteStore(self.path, most_bytes=self.most_bytes, clock=lambda: self.now)

    async def later(self, seconds: float) -> None:
        self.now += seconds

    async def restart(self) -> None:
        await self.store.close()
        self.store = self.open()


class OnValkey(Ground):
    def __init__(self, url: str) -> None:
        self.url = url
        self.admin: Any = Redis.from_url(url)
        self.store = ValkeyStore(url)

    async def later(self, seconds: float) -> None:
        for key in await self.admin.keys("*"):
            left = await self.admin.pttl(key) - int(seconds * 1000)
            await self.admin.pexpire(key, max(left, 0))  # 0 deletes it

    async def restart(self) -> None:
        await self.store.close()
        self.store = ValkeyStore(self.url)

    async def close(self) -> None:
        await super().close()
        await self.admin.flushdb()
        await self.admin.aclose()
