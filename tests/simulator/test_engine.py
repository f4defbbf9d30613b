import queue
from collections.abc import Iterator

import pytest

from simulated_llm.answer import Answer
from simulated_llm.engine import Engine, Progress
from simulated_llm.prose import Drift
from simulated_llm.script import Script
from simulated_llm.settings import Model, Settings


class Listener:
    """A client that notes what it is told."""

    def __init__(self, request_id: str = "") -> None:
        self.request_id = request_id
        self.gone = False
        self._heard: queue.Queue[str] = queue.Queue()

    def token(self, progress: Progress, *, last: bool) -> None:
        new = progress.answer.piece(progress.before, progress.sent)
        self._heard.put(new + ("." if last else ""))

    def fail(self, message: str) -> None:
        self._heard.put(message)

    def cancel(self) -> None:
        self._heard.put("cancelled")

    def expire(self) -> None:
        self._heard.put("expired")

    def left(self) -> bool:
        return self.gone

    def hears(self) -> str:
        return self._heard.get(timeout=20)

    def hears_nothing(self) -> bool:
        return self._heard.empty()


def answer(text: str, **script: object) -> Answer:
    ends = tuple(range(1, len(text) + 1))
    return Answer(text=text, ends=ends, finish_reason="stop", script=Script(**script))


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(Model(Settings(), Drift("", 0.0), step_s=0.001), publish=lambda _: None)
    engine.start()
    yield engine
    engine.stop()


def test_tokens_come_in_order(engine: Engine) -> None:
    one, other = Listener(), Listener()
    engine.submit(one, answer("abc"))
    engine.submit(other, answer("xy"))
    assert ["a", "b", "c."] == [one.hears() for _ in range(3)]
    assert ["x", "y."] == [other.hears() for _ in range(2)]


def test_a_client_that_left_is_dropped(engine: Engine) -> None:
    listener = Listener()
    engine.submit(listener, answer("abc", silent_after=1))
    assert "a" == listener.hears()
    listener.gone = True
    assert "cancelled" == listener.hears()


def test_a_request_is_cancelled_by_its_id(engine: Engine) -> None:
    mine, other = Listener("mine"), Listener("other")
    engine.submit(mine, answer("abc", silent_after=1))
    engine.submit(other, answer("xy", silent_after=1))
    assert ("a", "x") == (mine.hears(), other.hears())
    engine.cancel("mine")
    assert "cancelled" == mine.hears()
    assert other.hears_nothing()


def test_cancelling_nobody_does_not_cancel_who_comes_later(engine: Engine) -> None:
    listener = Listener("mine")
    engine.cancel("mine")
    engine.submit(listener, answer("x"))
    assert "x." == listener.hears()


def test_a_request_whose_time_is_over_ends(engine: Engine) -> None:
    listener = Listener()
    engine.submit(listener, answer("abc", silent_after=1), 0.05)
    assert ["a", "expired"] == [listener.hears() for _ in range(2)]


def test_silence_does_not_keep_others_waiting(engine: Engine) -> None:
    silent, listener = Listener(), Listener()
    engine.submit(silent, answer("abc", silent_after=0))
    engine.submit(listener, answer("x"))
    assert "x." == listener.hears()


def test_a_scripted_failure_is_told(engine: Engine) -> None:
    listener = Listener()
    engine.submit(listener, answer("abc", fail_after=1))
    assert ["a", "simulated failure after 1 tokens"] == [listener.hears() for _ in range(2)]


def test_who_is_left_at_the_end_is_told(engine: Engine) -> None:
    listener = Listener()
    engine.submit(listener, answer("abc", silent_after=0))
    engine.stop()
    assert "the model is unloading" == listener.hears()


def test_gauges_are_published_before_the_first_request() -> None:
    published: queue.Queue[int] = queue.Queue()
    model = Model(Settings(), Drift("", 0.0), step_s=0.001)
    engine = Engine(model, publish=lambda counts: published.put(counts.waiting))
    engine.start()
    assert 0 == published.get(timeout=20)
    engine.stop()
