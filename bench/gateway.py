"""`headgate serve` with an ear: it tells how long its event loop keeps a datagram waiting.

Whoever wants to know sends a stamp, about once in a millisecond, to the UDP port of the first
argument: the time of now, and the CPU time that this process has had until now. When the loop gets
to it, the first says how long a request would have waited: `felt`. Its `own` part is what the
process computed meanwhile, but no more than the loop's thread did since the stamp before it: other
programs on the same cores, and flushing to the disk in another thread, are no work of the loop.
"""

import asyncio
import struct
import sys
import time
from typing import Any, Final

import msgspec

from headgate_gateway import main as gateway
from headgate_gateway.settings import read_settings

STAMP: Final = struct.Struct("!qq")  # ns of the monotonic clock, and of our CPU clock
TELL: Final = b"tell"


class Waits(msgspec.Struct):
    """The longest waits since they were last asked for, s."""

    stamps: int = 0
    felt: float = 0.0
    own: float = 0.0


class Ear(asyncio.DatagramProtocol):
    """Takes stamps, and answers `TELL` with the longest waits."""

    def __init__(self) -> None:
        self._waits = Waits()
        self._worked = time.thread_time_ns()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        now, had, worked = time.monotonic_ns(), time.process_time_ns(), time.thread_time_ns()
        if data == TELL:
            self._transport.sendto(msgspec.json.encode(self._waits), addr)
            self._waits = Waits()
            return
        sent, had_then = STAMP.unpack(data)
        own = min(had - had_then, worked - self._worked)
        self._worked = worked
        waits = self._waits
        waits.stamps += 1
        waits.felt = max(waits.felt, (now - sent) / 1e9)
        waits.own = max(waits.own, own / 1e9)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", port))
    await gateway.serve(read_settings())


def main() -> None:
    """As the gateway's own `main`, and the ear."""
    gateway.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
