"""Work that goes on in the very turn of the event loop in which it is woken.

A task of asyncio's costs as much as a tenth of a request, and each time it waits for something a
future, a callback and another turn of the loop: more than a token that is passed on. A handler
mostly waits for one thing alone, over and over: news of its model server.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from typing import Any, cast, final


@final
class Signal:
    """Something that can be awaited again and again, by one at a time; `fire` wakes who waits.

    For a task of asyncio's it is like a future that is new whenever it is awaited.
    """

    __slots__ = ("_asyncio_future_blocking", "_begins", "_cancelled", "wakes")

    def __init__(self) -> None:
        # It does not ask for its loop before a task does: that takes a call of the kernel.
        self._asyncio_future_blocking = False
        self._begins = False  # somebody is about to wait
        self._cancelled: asyncio.CancelledError | None = None
        self.wakes: Callable[[], object] | None = None
        """Wakes who waits; None: nobody does."""

    def fire(self) -> None:
        wakes = self.wakes
        if wakes is not None:
            self.wakes = None
            wakes()

    # As it is awaited by one at a time, it is its own iterator: nothing is made for each wait.

    def __await__(self) -> Generator[Any, Any, None]:
        self._begins = self._asyncio_future_blocking = True
        return cast(Generator[Any, Any, None], self)

    def __iter__(self) -> "Signal":
        return self

    def __next__(self) -> "Signal":
        if not self._begins:
            raise StopIteration
        self._begins = False
        return self

    # What is asked of a future, by tasks and by who ends its waiting

    def done(self) -> bool:
        return self.wakes is None

    def set_result(self, _: None) -> None:
        self.fire()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def add_done_callback(self, wake: Callable[[Any], object], *, context: Context) -> None:
        self.wakes = partial(self.get_loop().call_soon, wake, self, context=context)

    def cancel(self, msg: object = None) -> bool:
        self._cancelled = asyncio.CancelledError(*(() if msg is None else (msg,)))
        self.fire()
        return True

    def result(self) -> None:
        cancelled, self._cancelled = self._cancelled, None
        try:
            if cancelled is not None:
                raise cancelled
        finally:
            del cancelled  # it knows of this frame, which would know of it for ever


@final
class Work:
    """Runs a coroutine: at once until it waits, and on in the turn in which a `Signal` fires.

    What it awaits beside signals makes a task of it, for the rest of its life. What needs a task
    from its first step, as `asyncio.timeout` does, awaits `in_task()` before.

    Args:
        coroutine: must not raise, but for being cancelled.
        loop: that runs.
        done: called at its end, which may be within `start`.
    """

    __slots__ = ("_context", "_coroutine", "_done", "_loop", "_over", "_signal", "_task")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        loop: asyncio.AbstractEventLoop,
        done: Callable[[], object],
    ) -> None:
        self._coroutine = coroutine
        self._context = copy_context()
        self._loop = loop
        self._done = done
        self._signal: Signal | None = None  # that it waits for
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def start(self) -> None:
        self._go(self._coroutine.send, None)

    def cancel(self, message: object = None) -> None:
        """Let what it waits for raise `CancelledError(message)`. Does nothing after its end."""
        if self._task is not None:
            self._task.cancel(message)
        elif self._signal is not None:
            self._signal.wakes = None
            self._go(self._coroutine.throw, asyncio.CancelledError(message))
        elif not self._over:  # it made its own client go away
            self._loop.call_soon(self.cancel, message)

    def _resume(self) -> None:
        self._go(self._coroutine.send, None)

    def _go(self, step: Callable[[Any], Any], value: object) -> None:
        self._signal = None
        try:
            awaited = self._context.run(step, value)
        except (StopIteration, asyncio.CancelledError):
            self._end()
        except Exception as error:  # noqa: BLE001 - told to the loop, as a task would
            self._end(error)
        else:
            if isinstance(awaited, Signal):
                awaited.wakes = self._resume
                self._signal = awaited
            else:
                rest = cast(Coroutine[Any, Any, None], _Rest(self._coroutine, awaited))
                self._task = self._loop.create_task(rest, context=self._context)
                self._task.add_done_callback(self._finished)
        finally:
            del value  # as in `Signal.result`: it may be what was raised

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._end(None if task.cancelled() else task.exception())

    def _end(self, error: BaseException | None = None) -> None:
        self._over = True
        if error is not None:
            self._loop.call_exception_handler({"message": "a handler failed", "exception": error})
        self._done()


async def in_task() -> None:
    """Let the rest of this work be a task of asyncio's."""
    await asyncio.sleep(0)


@final
class _Rest:
    """A coroutine that has been begun, for a task to go on with: it waits for `awaited`."""

    __slots__ = ("_awaited", "_begun", "_told")

    def __init__(self, begun: Coroutine[Any, Any, None], awaited: object) -> None:
        self._begun = begun
        self._awaited = awaited
        self._told = False  # the task knows what to wait for

    def send(self, value: object) -> object:
        if self._told:
            return self._begun.send(value)
        self._told = True
        return self._awaited

    def throw(self, error: BaseException) -> object:
        self._told = True
        try:
            return self._begun.throw(error)
        finally:
            del error  # as in `Signal.result`

    def close(self) -> None:
        self._begun.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._begun.__await__()
