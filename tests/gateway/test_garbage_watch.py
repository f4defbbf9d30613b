"""When the gateway looks for garbage: as far as possible when nobody waits."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator

import pytest

from headgate_gateway import garbage
from headgate_gateway.garbage import BUSY, EACH, SPARE

from . import virtual


class Knot:
    """Refers to itself, so that only a look frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Nobody else looks."""
    before = gc.get_threshold()
    garbage.by_hand()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.parametrize(
    ("grown", "in_work", "expected"),
    [
        (SPARE - 1, 0, False),
        (SPARE, 0, True),
        (SPARE, 1, False),
        (BUSY + EACH, 1, True),
        (BUSY + EACH, 2, False),
    ],
)
def test_requests_in_work_explain_many_objects(grown: int, in_work: int, expected: bool) -> None:
    assert expected is garbage.due(grown, in_work)


def left(*, grown: int, in_work: int, old: bool) -> bool:
    """Whether garbage is left some seconds later.

    Args:
        grown: objects that came meanwhile.
        in_work: requests.
        old: what is garbage now was none at the first look.
    """

    async def observe() -> bool:
        before = Knot()
        watching = asyncio.create_task(garbage.watch(lambda: in_work))
        await asyncio.sleep(0)
        knot = weakref.ref(before if old else Knot())
        del before
        objects = [[] for _ in range(grown)]
        await asyncio.sleep(3 * garbage.EVERY)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        del objects
        return knot() is not None

    return virtual.run(observe)


def test_what_leaks_is_found_when_nothing_is_in_work() -> None:
    assert not left(grown=2 * SPARE, in_work=0, old=False)
    assert not left(grown=2 * SPARE, in_work=0, old=True)


def test_requests_in_work_are_held_up_only_when_much_leaks() -> None:
    assert left(grown=2 * SPARE, in_work=1, old=False)
    assert not left(grown=2 * BUSY, in_work=1, old=False)


def test_what_is_older_than_a_thorough_look_is_spared_while_requests_are_in_work() -> None:
    assert left(grown=2 * BUSY, in_work=1, old=True)


def test_nobody_looks_while_a_snapshot_is_swapped() -> None:
    gc.disable()
    try:
        assert left(grown=2 * SPARE, in_work=0, old=False)
    finally:
        gc.enable()
