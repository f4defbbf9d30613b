"""Whatever model servers and clients do, in any order: one ending, on time, and nothing is left.

`Ground` looks at its end whether every count is back at zero and no timer is set.
"""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings, strategies as st

from headgate_api.snapshot import DeadlineBody, HedgingBody, RetryBody, SpeculationBody
from headgate_gateway.calls.call import Call
from headgate_gateway.calls.events import End, Failed, Text
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.routing.speculation import Preferred, Worth

from .engine import FINE, SHORT, Answer, Ground, following, ground, virtual
from .virtual import Server

DRAINING = Refusal(Code.GATEWAY_DRAINING, 503, "This gateway stops.", retry_after=1)
AFTER_1S = HedgingBody(seconds=1.0, max_percent=20)
EVERYTHING = (
    "Connect",
    "Reset",
    "Unavailable",
    "Overloaded",
    "FirstTokenTimeout",
    "InvalidOutput",
)

#        what the pods do                     by then, s   in which state it is
STATES = {
    "connecting": ([Server([FINE], dials=[9.0])], 1.0),
    "waiting for the head": ([Server([""])], 1.0),
    "waiting for text": ([Server(["head"])], 1.0),
    "waiting for a retry": ([Server(["!503/3"])], 1.0),
    "retrying": ([Server(["cut"]), Server([""])], 1.0),
    "between two tries of a stale connection": ([Server(["cut"], dials=[9.0])], 1.0),
    "hedged": ([Server([""]), Server([""])], 2.0),
    "hedging on a slow connection": ([Server([""]), Server([""], dials=[9.0])], 2.0),
    "in the middle of a stream": ([Server(["a 5 b end"])], 1.0),
    "idle after text": ([Server(["a"])], 1.0),
    "dripping": ([Server(["half 1 " * 9])], 2.5),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("state", STATES)
@virtual
async def test_a_call_can_be_stopped_in_every_state(state: str, stream: bool) -> None:
    servers, seconds = STATES[state]
    async with ground(*(Server(each.scripts, each.dials) for each in servers)) as g:
        call = await _brought_to(g, state, seconds, stream=stream)
        asyncio.get_running_loop().call_later(seconds, call.stop, DRAINING)
        answer = await g.read(call)

    assert ("gateway_draining", seconds) == (answer.code, answer.seconds)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("state", STATES)
@virtual
async def test_a_client_can_leave_in_every_state(state: str, stream: bool) -> None:
    servers, seconds = STATES[state]
    async with ground(*(Server(each.scripts, each.dials) for each in servers)) as g:
        call = await _brought_to(g, state, seconds, stream=stream)
        reading = asyncio.create_task(g.read(call))
        await asyncio.sleep(seconds)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        now = asyncio.get_running_loop().time()
        running = [r for r in call.tries.timeline.attempts if r.result == "cancelled"]
        silent = [
            asked.id
            for server in g.servers
            for asked in server.asked
            if "head" not in server.scripts[0] and asked.left_at == now
        ]

    assert (state == "waiting for a retry") == (not running)
    assert all(now == record.ended for record in running)
    stopped = [name for server in g.servers for name in server.stopped]
    assert sorted(stopped) == sorted(silent if state not in SPOKEN else [])


SPOKEN = ("in the middle of a stream", "idle after text", "dripping")


async def _brought_to(g: Ground, state: str, seconds: float, *, stream: bool) -> Call:
    if "stale" in state:
        g.rest()
    if "hedg" in state:
        await g.earn(AFTER_1S)
    return g.call(stream=stream, policy=SHORT, hedging=AFTER_1S if "hedg" in state else None)


@virtual
async def test_a_call_that_was_stopped_before_it_began_asks_nobody() -> None:
    async with ground(FINE) as g:
        call = g.call()
        call.stop(DRAINING)
        answer = await g.read(call)

    assert ("gateway_draining", [0]) == (answer.code, g.hits)


@virtual
async def test_the_ending_is_said_again_to_whoever_asks_again() -> None:
    async with ground(FINE, "") as g:
        call = g.call()
        while not isinstance(event := await following(call), End):
            pass
        call.stop(DRAINING)
        assert event is await following(call)
        call.close()


@pytest.mark.parametrize("rested", ["none", "good", "stale"])
@virtual
async def test_a_stop_arrives_whatever_the_connections_that_rest_are_worth(rested: str) -> None:
    async with ground("") as g:
        call = g.call()
        asyncio.get_running_loop().call_later(1, call.stop, DRAINING)
        if rested != "none":
            asyncio.get_running_loop().call_later(1, lambda: g.rest(stale=rested == "stale"))
        await g.read(call)
        await asyncio.sleep(0.5)
        assert g.servers[0].stopped == [g.servers[0].asked[0].id]


# Anything


WORD = st.sampled_from(
    ["a", "b", "head", "half", "error", "nonsense", "0.01", "0.3", "1", "3", "7"]
)
LAST = st.sampled_from(["end", "cut", "", "!503", "!429", "!429/3", "!500", "head !503", "0.5 cut"])
SCRIPTS = st.builds(
    lambda words, last: " ".join([*words, last]), st.lists(WORD, max_size=6), LAST
).filter(lambda script: "!" not in script or not set("abhn") & set(script.partition("!")[0]))
SERVERS = st.builds(
    lambda scripts, dials: (scripts, dials),
    st.lists(SCRIPTS, min_size=1, max_size=4),
    st.lists(st.sampled_from([0.0, 0.0, 0.5, 3.0, None]), min_size=1, max_size=3),
)
POLICIES = st.builds(
    DeadlineBody,
    background=st.booleans(),
    total=st.sampled_from([0.6, 2.0, 9.0]),
    stream=st.sampled_from([0.6, 5.0, 20.0]),
    first_segment=st.sampled_from([0.2, 2.0, 30.0]),
    idle_token=st.sampled_from([0.1, 2.0, 15.0]),
)
RETRIES = st.builds(
    RetryBody,
    max_attempts=st.integers(1, 5),
    budget_percent=st.sampled_from([0, 20, 100]),
    min_concurrent=st.integers(0, 3),
    backoff_base=st.sampled_from([0.001, 0.1, 2.0]),
    retry_on=st.lists(st.sampled_from(EVERYTHING), unique=True).map(tuple),
)
HEDGING = st.none() | st.builds(
    HedgingBody,
    percentile=st.none(),
    seconds=st.sampled_from([0.001, 0.5, 2.0]),
    max_percent=st.just(20),
)


@dataclass(frozen=True)
class Client:
    """One request: when it comes, how it reads, and when it is ended from outside, and by whom."""

    comes: float
    stream: bool
    pause: float
    ends: float | None
    leaves: bool  # else the gateway stops it
    policy: DeadlineBody
    retries: RetryBody
    hedging: HedgingBody | None
    milliseconds: int | None
    prefers: Preferred | None


CLIENTS = st.builds(
    Client,
    comes=st.floats(0, 5),
    stream=st.booleans(),
    pause=st.sampled_from([0.0, 0.0, 0.4]),
    ends=st.none() | st.floats(0, 8),
    leaves=st.booleans(),
    policy=POLICIES,
    retries=RETRIES,
    hedging=HEDGING,
    milliseconds=st.none() | st.integers(0, 6000),
    prefers=st.none()
    | st.builds(
        lambda cohort: Preferred((cohort,), SpeculationBody(), Worth()),
        st.sampled_from(["one", "two"]),
    ),
)


@dataclass
class Seen:
    """What came of one client's call."""

    answer: Answer | None = None  # None: the client has left
    late: float = 0.0  # s after its time was over
    calls: list[Call] = field(default_factory=list)


async def _play(g: Ground, client: Client) -> Seen:
    loop, seen = asyncio.get_running_loop(), Seen()
    await asyncio.sleep(client.comes)
    ms = client.milliseconds
    call = g.call(
        stream=client.stream,
        policy=client.policy,
        retries=client.retries,
        hedging=client.hedging,
        headers={} if ms is None else {b"x-request-timeout-ms": b"%d" % ms},
        prefers=client.prefers,
    )
    seen.calls.append(call)
    reading = asyncio.create_task(g.read(call, client.pause))
    timer = None
    if client.ends is not None:
        end = reading.cancel if client.leaves else lambda: call.stop(DRAINING)
        timer = loop.call_later(client.ends, end)
    try:
        seen.answer = await reading
        seen.late = loop.time() - call._ask.deadline.stop_at
    except asyncio.CancelledError:
        pass
    if timer is not None:
        timer.cancel()
    return seen


@settings(max_examples=300)
@given(
    servers=st.lists(SERVERS, min_size=1, max_size=4),
    cohorts=st.sampled_from([("one",), ("one", "two")]),
    rested=st.booleans(),
    clients=st.lists(CLIENTS, min_size=1, max_size=8),
    deleted=st.lists(st.tuples(st.integers(1, 4), st.floats(0, 6)), max_size=2),
)
@virtual
async def test_every_call_ends_once_and_on_time_and_leaves_nothing(
    servers: list[tuple[list[str], list[float | None]]],
    cohorts: tuple[str, ...],
    rested: bool,
    clients: list[Client],
    deleted: list[tuple[int, float]],
) -> None:
    loop = asyncio.get_running_loop()
    made = [Server(scripts, dials) for scripts, dials in servers]
    async with ground(*made, cohorts=cohorts) as g:
        for number, _ in enumerate(servers, 1):
            if rested:
                g.rest(f"pod-{number}")
        for number, seconds in deleted:
            loop.call_later(seconds, g.pods.gone, "chat", f"pod-{number}")
        seen = await asyncio.gather(*(_play(g, client) for client in clients))
        await asyncio.sleep(7)  # until the last pod has gone

    for client, one in zip(clients, seen, strict=True):
        (call,) = one.calls
        if one.answer is not None:
            assert one.answer.code
            assert one.late <= client.pause + 0.001
        else:
            assert client.leaves
        attempts = call.tries.timeline.attempts
        counted = [record for record in attempts if record.result != "stale"]
        hedges = [record for record in attempts if record.hedge]
        assert len(attempts) - len(counted) <= 1
        assert len(counted) - len(hedges) <= client.retries.max_attempts
        assert len(counted) <= max(client.retries.max_attempts, 2 if client.hedging else 1)
        assert len(hedges) <= (client.hedging is not None and not client.policy.background)
        assert 1 >= sum(record.first_text is not None for record in attempts)
        assert 1 >= sum(record.result == "ok" for record in attempts)


@given(script=SCRIPTS, stream=st.booleans())
@virtual
async def test_after_the_first_word_nobody_else_is_asked(script: str, stream: bool) -> None:
    """And after a failure there is no more text."""
    everything = RetryBody(max_attempts=5, retry_on=EVERYTHING)
    async with ground(script, FINE) as g:
        call = g.call(stream=stream, policy=SHORT, retries=everything)
        spoken = failed = False
        while not failed:
            match await following(call):
                case Text():
                    assert not failed
                    if not spoken:
                        spoken, asked = True, sum(g.hits)
                case End():
                    break
                case Failed():
                    failed = True
        again = await following(call)
        assert isinstance(again, Failed) == failed
        assert not spoken or asked == sum(g.hits)
        call.close()


@given(st.floats(1000, 5000))
@virtual
async def test_a_connection_stops_resting_whatever_the_clock_shows(at: float) -> None:
    """The clock's numbers are rounded: what is due must be due when it is looked at."""
    async with ground(FINE) as g:
        await asyncio.sleep(at - 1000)
        g.rest()
        await asyncio.sleep(5)
        assert 0 == g.servers[0].open
