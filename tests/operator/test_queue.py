import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headgate_controllers.contract import Key
from headgate_operator.queue import LONGEST_PAUSE, Queue

KEYS = st.sampled_from([Key("TenantQuota", "chat", name) for name in "abc"])
LLAMA = Key("ModelDeployment", "chat", "llama")


@dataclass
class FakeTimer:
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeClock:
    """A clock that a test moves; timers fire in the order of their times."""

    now: float = 0.0
    _timers: list[tuple[float, int, FakeTimer, Callable[[Key], None], Key]] = field(
        default_factory=list
    )
    _order: Callable[[], int] = field(default_factory=lambda: count().__next__)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[Key], None], key: Key, /) -> FakeTimer:
        timer = FakeTimer()
        heapq.heappush(self._timers, (when, self._order(), timer, callback, key))
        return timer

    def move(self, seconds: float) -> None:
        self.now += seconds
        while self._timers and self._timers[0][0] <= self.now:
            _, _, timer, callback, key = heapq.heappop(self._timers)
            if not timer.cancelled:
                callback(key)

    @property
    def waits(self) -> list[float]:
        """When the timers that still count are due."""
        return [at for at, _, timer, *_ in sorted(self._timers) if not timer.cancelled]


def latest(low: float, high: float) -> float:
    return high


def take(queue: Queue) -> Key | None:
    """Get a key without waiting."""
    return asyncio.run(queue.get()) if len(queue) else None


class QueueMachine(RuleBasedStateMachine):
    """Any order of calls, against a model of two sets: what is wanted, and what is in hand."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.queue = Queue("machine", self.clock)
        self.wanted: set[Key] = set()
        self.busy: set[Key] = set()
        self.promised: dict[Key, float] = {}

    @rule(key=KEYS)
    def add(self, key: Key) -> None:
        self.queue.add(key)
        self.wanted.add(key)
        self.promised.pop(key, None)

    @rule(key=KEYS, seconds=st.floats(0.0, 10.0))
    def add_after(self, key: Key, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        if key not in self.wanted:
            at = self.clock.now + seconds
            self.promised[key] = min(at, self.promised.get(key, at))

    @rule(seconds=st.floats(0.0, 20.0))
    def time_passes(self, seconds: float) -> None:
        self.clock.move(seconds)
        due = {key for key, at in self.promised.items() if at <= self.clock.now}
        self.wanted |= due
        self.promised = {k: at for k, at in self.promised.items() if k not in due}

    @precondition(lambda self: self.wanted - self.busy)
    @rule()
    def a_worker_takes_a_key(self) -> None:
        key = take(self.queue)
        assert key in self.wanted - self.busy
        self.wanted.discard(key)
        self.busy.add(key)

    @precondition(lambda self: not (self.wanted - self.busy))
    @rule()
    def a_worker_finds_nothing(self) -> None:
        assert take(self.queue) is None

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def a_worker_is_done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.busy)))
        self.queue.done(key)
        self.busy.discard(key)

    @invariant()
    def every_promise_has_its_timer(self) -> None:
        assert sorted(self.promised.values()) == self.clock.waits


TestQueue = QueueMachine.TestCase


def test_each_failure_waits_longer_and_success_starts_anew() -> None:
    clock = FakeClock()
    queue = Queue("test", clock, chance=latest)
    waits = []
    for _ in range(14):
        queue.retry(LLAMA)
        waits.append(round(clock.waits[0] - clock.now, 6))
        clock.move(LONGEST_PAUSE)
        assert LLAMA == take(queue)
        queue.done(LLAMA)
    assert [0.02, 0.04, 0.08, 0.16] == waits[:4]
    assert [40.96, 60.0, 60.0] == waits[-3:]

    queue.forget(LLAMA)
    queue.retry(LLAMA)
    assert [0.02] == [round(at - clock.now, 6) for at in clock.waits]


def test_a_retry_waits_as_long_as_the_server_asks() -> None:
    clock = FakeClock()
    queue = Queue("test", clock)
    queue.retry(LLAMA, not_before=7.0)
    assert [7.0] == clock.waits


async def test_a_waiting_worker_wakes_up() -> None:
    queue = Queue("test", asyncio.get_running_loop())
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add(LLAMA)
    assert LLAMA == waiting.result()


@pytest.mark.parametrize("pause", [0.0, 0.01])
async def test_a_timer_of_the_loop_brings_the_key(pause: float) -> None:
    queue = Queue("test", asyncio.get_running_loop())
    queue.add_after(LLAMA, pause)
    queue.add_after(LLAMA, pause)  # uvloop gives a handle without a time for what is due at once
    assert LLAMA == await queue.get()
