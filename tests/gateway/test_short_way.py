"""Text on its short way: from the model server's socket to the client's in one go."""

from collections.abc import Awaitable, Callable

import pytest

from headgate_gateway.calls.events import End, Text

from .clients import relaxed, serving
from .conftest import Running
from .engine import following, ground, virtual
from .faulty import says
from .streams import Pieces, Seen
from .test_streams import entries, request, word

Start = Callable[..., Awaitable[Running]]


@virtual
async def test_text_is_offered_when_it_comes_and_what_was_not_taken_is_left() -> None:
    offered: list[str] = []

    def take_one(text: Text, _: float) -> bool:
        offered.append(text.text)
        return len(offered) == 1

    async with ground("0.1 One 0.1 two 0.1 three end") as place:
        call = place.call()
        begun = await following(call)
        await call.news(take_one)
        left = [call.take(), call.take()]
        call.close()

    assert (Text("One "), ["two ", "three "]) == (begun, offered)
    assert Text("three ") == left[0]
    assert isinstance(left[1], End)


@virtual
async def test_a_bug_on_the_short_way_is_told_to_who_waits() -> None:
    def break_down(_: Text, now: float) -> bool:
        raise ZeroDivisionError

    async with ground("0.1 One 0.1 two end") as place:
        call = place.call()
        await following(call)
        await call.news(break_down)
        with pytest.raises(ZeroDivisionError):
            call.take()
        call.close()


class Full(Pieces):
    """Of a client that has more to read than it should, at any time."""

    waited = 0

    @property
    def full(self) -> bool:
        return True

    async def send(self, data: bytes) -> None:
        self.waited += 1
        await super().send(data)


SERVED = {
    "no rules": serving("triton-python", relaxed()),
    "tokens": entries(boundary="Token"),
    "sentences": entries(),
}


@pytest.mark.parametrize("rules", SERVED)
async def test_nothing_is_written_to_a_full_client_without_waiting_for_it(
    start: Start, rules: str
) -> None:
    running = await start(says(*[word("One. ")] * 5), entries=SERVED[rules])
    asked = request()
    exchange = Full(asked.head.method, asked.head.path)
    exchange.head, exchange.body = asked.head, asked.body
    await running.gateway.edge.handle(exchange)

    assert "One. " * 5 == "".join(Seen(exchange).texts)
    assert len(exchange.pieces) - 1 == exchange.waited  # the last one ends it
