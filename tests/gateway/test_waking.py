"""Work that goes on in the turn in which its signal fires, with a task of asyncio's or without."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from headgate_gateway.telemetry.logs import REQUEST_ID
from headgate_gateway.waking import Signal, Work, in_task


class Seen(list[str]):
    """What happened, in order."""

    def work(self, coroutine: Coroutine[Any, Any, None]) -> Work:
        work = Work(coroutine, asyncio.get_running_loop(), lambda: self.append("done"))
        work.start()
        return work


def signal() -> Signal:
    return Signal()


async def test_work_runs_at_once_and_goes_on_in_the_turn_in_which_it_is_woken() -> None:
    seen, news = Seen(), signal()

    async def handle() -> None:
        for word in ("one", "two"):
            await news
            seen.append(word)

    seen.work(handle())
    assert [] == seen
    news.fire()
    assert ["one"] == seen
    news.fire()
    news.fire()  # nobody waits any more

    assert ["one", "two", "done"] == seen


async def test_work_that_waits_for_anything_else_becomes_a_task_and_knows_its_request() -> None:
    seen, news, over = Seen(), signal(), asyncio.Event()

    async def handle() -> None:
        REQUEST_ID.set("r-1")
        await in_task()
        async with asyncio.timeout(5):
            await news
        seen.append(str(REQUEST_ID.get()))
        over.set()

    seen.work(handle())
    while news.done():  # noqa: ASYNC110 - nobody waits for it yet
        await asyncio.sleep(0)
    news.set_result(None)
    await over.wait()
    await asyncio.sleep(0)

    assert ["r-1", "done"] == seen
    assert REQUEST_ID.get() is None


@pytest.mark.parametrize("first", [False, True], ids=["at a signal", "in a task"])
async def test_work_is_told_since_when_nobody_waits_for_it(first: bool) -> None:
    seen, news, over = Seen(), signal(), asyncio.Event()

    async def handle() -> None:
        if first:
            await in_task()
        try:
            await news
        except asyncio.CancelledError as cancelled:
            seen.append(str(cancelled.args[0]))
            over.set()
            raise

    work = seen.work(handle())
    while news.done():  # noqa: ASYNC110 - nobody waits for it yet
        await asyncio.sleep(0)
    work.cancel(7.5)
    await over.wait()
    await asyncio.sleep(0)
    work.cancel(8.5)  # does nothing any more

    assert ["7.5", "done"] == seen


async def test_work_that_makes_its_own_client_leave_is_cancelled_where_it_next_waits() -> None:
    seen, works = Seen(), list[Work]()

    async def handle() -> None:
        works[0].cancel(1.0)
        await signal()

    works.append(Work(handle(), asyncio.get_running_loop(), lambda: seen.append("done")))
    works[0].start()
    assert [] == seen
    await asyncio.sleep(0)

    assert ["done"] == seen


@pytest.mark.parametrize("first", [False, True], ids=["at once", "in a task"])
async def test_what_work_raises_is_told_to_the_loop(first: bool) -> None:
    seen, loop, told = Seen(), asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    error = ValueError("bad")

    async def handle() -> None:
        if first:
            await in_task()
        raise error

    seen.work(handle())
    while not seen:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    loop.set_exception_handler(None)

    assert [error] == told
