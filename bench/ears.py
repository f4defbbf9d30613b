"""Asks the event loops of the benchmark's gateways how long they keep others waiting."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from bench.gateway import STAMP, TELL, Waits

PERIOD = 0.001  # s between two stamps


class Ears(asyncio.DatagramProtocol):
    """Sends stamps to gateways, given as the port of the ear and the process id."""

    def __init__(self, gateways: Mapping[int, int]) -> None:
        self._clocks = {("127.0.0.1", port): _cpu_clock(pid) for port, pid in gateways.items()}
        self._told: asyncio.Queue[Waits] = asyncio.Queue()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._told.put_nowait(msgspec.json.decode(data, type=Waits))

    def error_received(self, exc: Exception) -> None:
        """A gateway that does not listen yet."""

    async def ask(self) -> list[Waits]:
        """The longest waits of every gateway since it was asked last."""
        for address in self._clocks:
            self._transport.sendto(TELL, address)
        return [await asyncio.wait_for(self._told.get(), 10) for _ in self._clocks]

    async def send(self) -> None:
        while True:
            for address, clock in self._clocks.items():
                stamp = STAMP.pack(time.monotonic_ns(), time.clock_gettime_ns(clock))
                self._transport.sendto(stamp, address)
            await asyncio.sleep(PERIOD)


def _cpu_clock(pid: int) -> int:
    """Name the clock of another process's CPU time, as clock_getcpuclockid(3) does."""
    return (~pid << 3) | 2


@asynccontextmanager
async def listening(gateways: Mapping[int, int]) -> AsyncIterator[Ears]:
    loop = asyncio.get_running_loop()
    transport, ears = await loop.create_datagram_endpoint(
        lambda: Ears(gateways), local_addr=("127.0.0.1", 0)
    )
    stamps = asyncio.create_task(ears.send())
    try:
        yield ears
    finally:
        stamps.cancel()
        with suppress(asyncio.CancelledError):
            await stamps
        transport.close()
