"""What is kept of requests that have ended: little, bounded, and nothing of their own."""

import gc
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
from hypothesis import given, strategies as st

from headgate_gateway.explain.kept import Own, Record
from headgate_gateway.explain.record import CLIP, clipped
from headgate_gateway.explain.ring import Ring

from .conftest import KEY, Running, policy
from .test_calls import ask
from .upstream import saying

Start = Callable[..., Awaitable[Running]]


def made(name: str, ended: float) -> Record:
    own = msgspec.msgpack.encode(Own(name, ended - 1, None, None, None, None, None))
    return Record(ended, own, "", (), b"{}", None, b"")


def test_the_newest_are_kept_up_to_their_number() -> None:
    ring = Ring(most=3)
    for number in range(5):
        ring.keep(made(f"r-{number}", float(number)))

    assert 3 == len(ring)
    assert None is ring.find("r-1", 5.0)
    assert made("r-2", 2.0) == ring.find("r-2", 5.0)


def test_none_is_kept_for_longer_than_its_time() -> None:
    ring = Ring(seconds=10.0)
    ring.keep(made("old", 0.0))
    ring.keep(made("new", 5.0))

    assert made("old", 0.0) == ring.find("old", 10.0)
    assert None is ring.find("old", 10.1)
    assert 1 == len(ring), "and its memory is free"
    ring.keep(made("newest", 20.0))
    assert 1 == len(ring)


def test_a_ring_for_none_keeps_none() -> None:
    ring = Ring(most=0)
    ring.keep(made("r-1", 0.0))

    assert None is ring.find("r-1", 0.0)


VALUES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abcdef"), inner),
    max_leaves=8,
)


@given(words=st.dictionaries(st.sampled_from("abcdef"), VALUES))
def test_no_value_of_a_client_is_kept_at_length(words: dict[str, Any]) -> None:
    assert all(len(text) <= CLIP + 3 for text in _texts(list(clipped(words).values())))


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)


async def test_nothing_of_a_request_is_alive_once_it_was_told(start: Start) -> None:
    running = await start(saying("My", " answer"), entries=policy())

    exchange = await ask(running, messages=[{"role": "user", "content": "a secret"}])
    gone = weakref.ref(exchange)
    del exchange
    gc.collect()

    assert None is gone()
    (record,) = running.gateway.explanations
    kept = record.own + record.common.encode() + record.decided
    assert not [text for text in (b"secret", b"answer", KEY.encode()) if text in kept]
    parts = msgspec.structs.astuple(record)
    assert [record.names, record.route] == [
        part for part in parts if not isinstance(part, str | float | bytes)
    ]
    assert sum(map(sys.getsizeof, (record, record.ended, record.own))) < 384


async def test_what_two_requests_have_in_common_is_kept_once(start: Start) -> None:
    running = await start(saying("My", " answer"), entries=policy())
    for _ in range(2):
        await ask(running)

    one, other = running.gateway.explanations
    assert one.common
    assert one.common is other.common
    assert one.names is other.names
    assert one.decided is other.decided


async def test_a_request_that_names_much_is_kept_as_briefly(start: Start) -> None:
    running = await start(saying("Hi"))

    await ask(running, model="m" * 250, user="u" * 10_000)

    (record,) = running.gateway.explanations
    assert len(record.line) < 512
