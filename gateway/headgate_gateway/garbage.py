"""Looks for garbage when there may be some, and not in the requests in work.

What a request needs goes with the last reference to it: no cycle keeps it, which tests hold to be
true, and none was found behind the admin port or connections that break. Python would look all the
same, at requests in work above all: while 512 streams began, a look after every 20,000 new objects
took 4 to 7 ms, and all streams were late for 30 to 50 ms behind each. After every 2,000 it took
0.2 to 0.9 ms, thirty times. Now there is none.

The number of objects that came and stayed tells whether something leaks, and costs nothing to read.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final

EVERY: Final = 1.0  # s
SPARE: Final = 10_000
"""Objects that may come and stay while nothing is in work: connections at rest, series of metrics.
About 1 MiB."""
BUSY: Final = 50_000
"""The same while something is: a look holds it up, for some 10 ms."""
EACH: Final = 200
"""Objects of one request in work; a stream has about 70, a long prompt has more."""


def by_hand() -> None:
    """Never look for garbage but in `watch`."""
    gc.set_threshold(0)


def due(grown: int, in_work: int) -> bool:
    """Whether to look for garbage.

    Args:
        grown: objects more than when that was done last.
        in_work: requests.
    """
    return grown >= (BUSY + EACH * in_work if in_work else SPARE)


async def watch(in_work: Callable[[], int]) -> None:
    """Look whenever it is due, for ever.

    At all objects while nothing is in work, as at the start, when it takes 20 ms. Else only at
    those that are newer than the last such look, and than the policy in force.
    """
    _look(thorough=True)
    while True:
        await asyncio.sleep(EVERY)
        requests = in_work()
        # Who has turned the collector off is making many objects, and wants no look meanwhile.
        if gc.isenabled() and due(gc.get_count()[0], requests):
            _look(thorough=not requests)


def _look(*, thorough: bool) -> None:
    if thorough:
        gc.unfreeze()
    gc.collect()
    if thorough:
        gc.freeze()
