"""Telling a model server to stop a request whose answer has not begun.

Once the first event has come, closing the connection is enough. Until then Triton does not look at
it: the request would wait in the model's queue and then take a slot, for nobody. Nobody waits for
these calls, and they are few: a client that leaves, or a deadline that ends, before the first text.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from headgate_gateway.calls.upstream import Lost, Upstream, dial
from headgate_gateway.routing.pods import Pod

log = structlog.get_logger(__name__)

SECONDS: Final = 1.0
"""After that the pod has worse problems."""
AT_ONCE: Final = 256
"""More clients than that do not leave at once; the rest is left to the server's own time limits."""


class Stops:
    """Sends stops, each in a task of its own."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, pod: Pod, request: bytes) -> None:
        if len(self._tasks) >= AT_ONCE:
            return
        task = asyncio.get_running_loop().create_task(_send(pod, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _send(pod: Pod, request: bytes) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            rested = pod.take()
            if rested is not None:
                with suppress(Lost):  # it may have rested for too long
                    return await _ask(pod, rested, request)
            await _ask(pod, await dial(pod.host, pod.port, SECONDS), request)
    except (Lost, TimeoutError) as error:
        log.warning("a request could not be stopped", pod=pod.name, error=repr(error))


async def _ask(pod: Pod, connection: Upstream, request: bytes) -> None:
    """Ask, and read the answer to its end: the connection is good for another request then."""
    news = asyncio.Event()
    try:
        connection.send(request, news.set)
        while (data := connection.take()) != b"":
            if data is None:
                news.clear()
                await news.wait()
    finally:
        pod.give_back(connection)
