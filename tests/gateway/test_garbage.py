"""What is over goes at once: no cycle keeps it until the garbage collector comes by.

The collector of a gateway looks at old objects seldom, as a look is a pause for every stream. What
only it could free would stay for hours.
"""

import asyncio
import gc
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias

import pytest
import trustme
from msgspec import structs

from headgate_api.snapshot import DeadlineBody, RetryBody, RouteBody

from . import edges
from .clients import Client, at_rest, has_spoken, relaxed, serving
from .conftest import ALL, Running, until
from .faulty import DIALECTS, resets, says
from .upstream import Script

Start: TypeAlias = Callable[..., Awaitable[Running]]
EVENTS = DIALECTS["triton-python"]
RULES = relaxed(
    deadlines=DeadlineBody(idle_token=0.05),
    retries=RetryBody(backoff_base=0.001, backoff_max=0.001),
)
CASCADE = structs.replace(
    RULES,
    architecture="Cascade",
    routes=(
        structs.replace(ALL, name="small", accept_when="answer.text == ''"),
        structs.replace(ALL, name="large"),
    ),
)
ENDS: dict[str, tuple[Script, str]] = {
    "a whole answer": (says(*EVENTS), "200 Good morning. [DONE]"),
    "no answer": (resets, "502 upstream_lost"),
    "half an answer": (says(EVENTS[0], None), "200 Good upstream_timeout"),
}


@pytest.fixture
def garbage() -> Iterator[Callable[[], list[str]]]:
    """Name the gateway's objects that have become garbage since the test began."""

    def find() -> list[str]:
        gc.collect()
        found = sorted(type(each).__qualname__ for each in gc.garbage if ours(each))
        gc.garbage.clear()
        return found

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield find
    gc.set_debug(0)
    gc.enable()


def ours(found: object) -> bool:
    return type(found).__module__.startswith("headgate_gateway.")


@pytest.mark.parametrize("end", ENDS)
async def test_a_request_leaves_no_garbage(
    start: Start, garbage: Callable[[], list[str]], end: str
) -> None:
    script, told = ENDS[end]
    running = await start(script, entries=serving("triton-python", RULES))

    assert told == await Client(running, stream=True).post()
    await until(lambda: at_rest(running) and not running.gateway.edge.connections)
    assert [] == garbage()


async def test_a_pod_that_takes_no_connection_leaves_no_garbage(
    start: Start, garbage: Callable[[], list[str]]
) -> None:
    running = await start(resets, entries=serving("triton-python", RULES))
    await running.upstreams[0].stop()

    assert "502 upstream_lost" == await Client(running, stream=True).post()
    await until(lambda: at_rest(running) and not running.gateway.edge.connections)
    assert [] == garbage()


async def test_a_cascade_leaves_no_garbage(start: Start, garbage: Callable[[], list[str]]) -> None:
    running = await start(says(*EVENTS), entries=serving("triton-python", CASCADE))

    assert "200 Good morning. [DONE]" == await Client(running, stream=True).post()
    await until(lambda: at_rest(running) and not running.gateway.edge.connections)
    assert [] == garbage()


def is_asked(running: Running) -> bool:
    """A pod is."""
    return any(each.in_flight for each in running.gateway.pods._by_name.values())


@pytest.mark.parametrize(
    ("rules", "when"), [(RULES, has_spoken), (CASCADE, is_asked)], ids=["single", "cascade"]
)
async def test_a_client_that_leaves_leaves_no_garbage(
    start: Start,
    garbage: Callable[[], list[str]],
    rules: RouteBody,
    when: Callable[[Running], bool],
) -> None:
    patient = structs.replace(rules, deadlines=DeadlineBody())
    running = await start(says(EVENTS[0], None), entries=serving("triton-python", patient))
    for _ in range(2):  # of the first one nothing is in work any more
        asked = asyncio.create_task(Client(running, stream=True).post())
        await until(lambda: when(running))
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await until(lambda: at_rest(running) and not running.gateway.edge.connections)

    assert [] == garbage()


async def test_a_client_that_speaks_no_tls_leaves_no_garbage(
    garbage: Callable[[], list[str]],
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("gateway.test").configure_cert(tls)
    async with edges.serving(tls=tls) as edge:
        for _ in range(2):
            reader, writer = await edges.dial(edge)
            writer.write(edges.GET)
            assert b"" == await reader.read()
            writer.close()
    assert [] == garbage()
