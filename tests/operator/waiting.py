"""Waiting on what comes true, without a clock in the verdict: a run that hangs is cut from outside."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(found: Callable[[], Awaitable[T]]) -> T:
    """Ask again and again until the answer is truthy, and return it."""
    while not (answer := await found()):
        await asyncio.sleep(0.02)
    return answer
