"""Clients that leave: whatever was done for them is stopped, and counted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import pytest

from headgate_api.snapshot import HedgingBody, RouteBody
from headgate_gateway.routing.pods import Pool

from .clients import Client, at_rest, has_spoken, in_work, relaxed, serving, told
from .conftest import Running, until
from .faulty import DIALECTS, answers, says, silent
from .upstream import Connection, Script

Start: TypeAlias = Callable[..., Awaitable[Running]]


def cancellations(running: Running) -> dict[str, int]:
    """How many attempts were stopped, by cause."""
    found = running.gateway.metrics.cancellations.items()
    return {labels[0]: int(count.value) for labels, count in found}


FIRST = DIALECTS["triton-python"][0]
LATER = answers(503, b"", "Retry-After: 60")
HEDGED = relaxed(hedging=HedgingBody(seconds=0.001, max_percent=20))


@dataclass(frozen=True)
class Row:
    """When a client leaves.

    Args:
        scripts: of the pods.
        rules: of the route.
        when: the moment.
        stops: how many attempts are stopped by a request of its own.
        counted: how many are stopped in all.
        failed: how many have failed before.
    """

    scripts: tuple[Script, ...]
    rules: RouteBody
    when: Callable[[Running], bool]
    stops: int
    counted: int
    failed: int = 0


def nobody_is_asked(running: Running) -> bool:
    return running.upstreams[0].requests == 1 and not in_work(running)


MATRIX = {
    "before the head": Row((silent,), relaxed(), lambda g: in_work(g) == [False], 1, 1),
    "after the head": Row((says(None),), relaxed(), lambda g: in_work(g) == [True], 0, 1),
    "in the middle": Row((says(FIRST, None),), relaxed(), has_spoken, 0, 1),
    "while a retry waits": Row((LATER,), relaxed(), nobody_is_asked, 0, 0, failed=1),
    "while two are asked": Row(
        (silent, silent), HEDGED, lambda g: in_work(g) == [False, False], 2, 2
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("case", MATRIX)
async def test_a_client_that_leaves_stops_all_that_was_done_for_it(
    start: Start, case: str, stream: bool
) -> None:
    row = MATRIX[case]
    running = await start(*row.scripts, entries=serving("triton-python", row.rules))
    if row.rules.hedging is not None:
        traffics = running.gateway.inference.ground.backends.traffics
        for _ in range(20):  # so that one may be asked twice
            traffics.of(Pool("chat", "uid-llama")).earn(row.rules.hedging)
    asked = asyncio.create_task(Client(running, stream).post())
    await until(lambda: all(each.requests for each in running.upstreams) and row.when(running))
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await until(lambda: at_rest(running))

    assert ({"client_closed": row.counted} if row.counted else {}) == cancellations(running)
    assert (0, row.failed) == told(running)
    upstreams = running.upstreams
    await until(lambda: row.stops == sum(len(upstream.stopped) for upstream in upstreams))
    assert all(set(upstream.stopped) <= set(upstream.ids) for upstream in upstreams)
    if row.counted:
        await asyncio.gather(*(upstream.cancelled.wait() for upstream in upstreams))


async def test_a_client_that_leaves_while_others_read_stops_only_its_own(start: Start) -> None:
    say, hold = asyncio.Event(), asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.begin()
        await connection.chunk(FIRST)
        say.set()
        await hold.wait()
        await connection.end()

    running = await start(script, entries=serving("triton-python", relaxed()))
    stays = asyncio.create_task(Client(running, stream=True).post())
    await say.wait()
    leaves = asyncio.create_task(Client(running, stream=True).post())
    await until(lambda: in_work(running) == [True, True])
    leaves.cancel()
    await until(lambda: in_work(running) == [True])
    hold.set()

    assert "200 Good [DONE]" == await stays
    assert {"client_closed": 1} == cancellations(running)
