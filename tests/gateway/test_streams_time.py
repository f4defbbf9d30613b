"""Streams in virtual time: what is held when, when they are stopped, and who goes on with them."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec import structs

from headgate_api.snapshot import DeadlineBody, RetryBody, RouteRule, StreamingBody, TenantBody
from headgate_gateway.calls.adapter import Form, Sampling
from headgate_gateway.calls.events import Text
from headgate_gateway.calls.source import Source
from headgate_gateway.edge.chat_request import ChatRequest
from headgate_gateway.edge.exchange import Head
from headgate_gateway.edge.read_chat import read_chat_request
from headgate_gateway.metrics import GAP_BOUNDS
from headgate_gateway.outcome import Outcome
from headgate_gateway.request import Request
from headgate_gateway.routing.tables import Credential, Tables, Tenant
from headgate_gateway.streaming.bodies import Names
from headgate_gateway.streaming.chat import ChatStream
from headgate_gateway.streaming.continued import Continued
from headgate_gateway.streaming.segmented import Segmented
from headgate_gateway.streaming.watch import _RETRACTS, Watch, retracts
from headgate_gateway.telemetry.series import Spread
from headgate_gateway.timeline import Timeline
from headgate_gateway.values import replaced

from .conftest import NAME, api_key
from .engine import SHORT, TASK, Ground, ground, timeline, virtual
from .streams import Pieces, Seen
from .told import trace

TENANT = TenantBody(tenant="acme", keys=(api_key("k"),))
BODY = {
    "model": NAME,
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


class Timed(Pieces):
    """Knows when each piece came."""

    def __init__(self, *more: Any) -> None:
        super().__init__(*more)
        self.times: list[float] = []

    def write(self, data: bytes) -> None:
        self.times.append(asyncio.get_running_loop().time())
        super().write(data)

    def finish(self, data: bytes = b"") -> None:
        self.times.append(asyncio.get_running_loop().time())
        super().finish(data)


@dataclass
class Read:
    """What a client has read, and when."""

    seen: Seen
    times: list[float]  # s, of each write
    outcome: Outcome
    refused: str  # reason code, where nothing was given


async def read(source: Source, timeline: Timeline, how: StreamingBody) -> Read:
    """Read a stream to its end."""
    clock = asyncio.get_running_loop().time
    body = json.dumps(BODY).encode()
    asked = read_chat_request(body)
    assert isinstance(asked, ChatRequest)
    request = Request(
        id="r",
        head=Head("POST", "/v1/chat/completions", {}),
        body=body,
        tables=Tables(),
        loaded=True,
        now=0.0,
        trace=trace(),
        timeline=timeline,
    )
    request.credential = Credential(Tenant("chat", TENANT, ()), TENANT.keys[0])
    request.asked = asked
    request.rule = RouteRule(name="all", streaming=how)
    exchange, outcome, began = Timed("POST", "/v1/chat/completions"), Outcome(), clock()

    def begin() -> None:
        outcome.status = 200
        exchange.start(200, b"")

    segmented = Segmented(
        source,
        exchange,
        request,
        outcome,
        begin=begin,
        writer=lambda: ChatStream(Names("id", 0, NAME, "rev"), asked),
        clock=clock,
    )
    try:
        refusal = await segmented.give()
    finally:
        source.close()
    times = [round(time - began, 3) for time in exchange.times]
    seen = Seen(exchange) if exchange.started else Seen(Timed("POST", ""))
    return Read(seen, times, outcome, refusal.code if refusal is not None else "")


async def ask(place: Ground, how: StreamingBody | None = None, **more: Any) -> Read:
    call = place.call(**more)
    return await read(call, call.tries.timeline, how or StreamingBody())


@virtual
async def test_text_goes_sentence_by_sentence_or_once_it_was_held_for_long_enough() -> None:
    # The server puts a space behind each word.
    async with ground("0.1 It 0.1 is. 0.1 A 0.1 very 0.1 long 0.4 one 0.1 end") as place:
        told = await ask(place)

    assert ["It is. ", "A very long ", "one "] == told.seen.texts
    assert [0.2, 0.8, 1.0, 1.0] == told.times
    assert told.outcome.watch is not None
    gaps, longest = told.outcome.watch.gaps, told.outcome.watch.longest
    assert (2, 0.8, 0.6) == (sum(gaps.counts), round(gaps.total, 3), round(longest, 3))


@given(st.lists(st.one_of(st.sampled_from(GAP_BOUNDS), st.floats(0, 20)), max_size=30))
def test_each_gap_between_segments_is_counted_once(gaps: list[float]) -> None:
    watch, spread, now = Watch(), Spread(GAP_BOUNDS), 0.0
    watch.given(Text("word "), now)
    for gap in gaps:
        spread.observe((now + gap) - now)
        watch.given(Text("word "), now := now + gap)

    for _ in range(2):  # to ask changes nothing
        assert (spread.counts, spread.total) == (watch.gaps.counts, watch.gaps.total)


RETRACTIONS = (
    "Wait, no",
    "  I misspoke",
    '"Actually, that is',
    "# Correction",
    "\x85let me correct",
)


@given(st.one_of(st.text(max_size=9), st.sampled_from(RETRACTIONS)))
def test_what_takes_something_back_is_found_by_its_first_letter(text: str) -> None:
    assert retracts(text) == bool(_RETRACTS.match(text))
    assert text not in RETRACTIONS or retracts(text)


@virtual
async def test_a_stream_whose_time_is_over_ends_well_and_within_its_reserve() -> None:
    async with ground(
        "0.1 It 1 is. 1 It 1 is 1 a 1 very 1 long 1 story 1 that 1 has 9 no end"
    ) as place:
        told = await ask(place, policy=SHORT)

    assert "It is. It is a very long story that has …" == "".join(told.seen.texts)
    assert ("length", "deadline_exceeded", True) == (
        told.seen.finish,
        told.seen.stopped,
        told.seen.done,
    )
    assert 9.5 == told.times[-1]
    assert ("deadline_exceeded", 200) == (told.outcome.code, told.outcome.status)
    assert told.outcome.end is not None
    assert told.outcome.end.usage.output_tokens == (told.seen.usage or {})["completion_tokens"]


@virtual
async def test_what_was_never_given_is_refused_when_its_time_is_over() -> None:
    async with ground("9.4 It 9 is end") as place:
        policy = structs.replace(SHORT, first_segment=10.0)
        told = await ask(place, StreamingBody(max_hold=5.0), policy=policy)

    assert ("deadline_exceeded", []) == (told.refused, told.times)


@virtual
async def test_signs_of_life_stop_when_there_is_text() -> None:
    async with ground("31 It. 0.1 is end") as place:
        told = await ask(place, policy=DeadlineBody(first_segment=60.0))

    assert ([15.0, 30.0, 31.0, 31.1, 31.1], ["It. ", "is "]) == (told.times, told.seen.texts)


# Another pod goes on


CONTINUE = StreamingBody(on_upstream_loss="Continue")


async def going_on(place: Ground, **more: Any) -> Read:
    call = place.call(**more)
    call.close()
    place.calls.clear()
    source = Continued(place.backends, call._ask, call.tries.timeline)
    place.calls.append(source)
    return await read(source, call.tries.timeline, CONTINUE)


@virtual
async def test_another_pod_goes_on_where_one_was_lost() -> None:
    async with ground("0.1 One. 0.1 Two 0.1 cut", "0.1 and. 0.1 three end") as place:
        told = await going_on(place)
        first, second = place.asked

    assert "One. Two and. three " == "".join(told.seen.texts)
    assert ("stop", True, None) == (told.seen.finish, told.seen.done, told.seen.error)
    assert "Hello" == first.fields["text_input"]
    assert "HelloOne. Two " == second.fields["text_input"]
    assert (64, 62) == (first.fields["max_tokens"], second.fields["max_tokens"])
    assert {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6} == told.seen.usage
    lost, last = timeline(place.calls[0]).attempts
    assert ("upstream_lost", None, "ok") == (lost.result, lost.usage, last.result)


LOST = "0.1 One. 0.1 Two 0.1 cut"
NEVER = {
    "nobody else is there": ((LOST,), {}, [1]),
    "no try is left": ((LOST, "0.1 x end"), {"retries": RetryBody(max_attempts=1)}, [1, 0]),
    "it is not to be tried again": (
        (LOST, "0.1 x end"),
        {"retries": RetryBody(retry_on=("Connect",))},
        [1, 0],
    ),
    "others are tried again already": (
        (LOST, "0.1 x end"),
        {"retries": RetryBody(budget_percent=0, min_concurrent=0)},
        [1, 0],
    ),
    "its form is to be checked": (
        (LOST, "0.1 x end"),
        {"task": replaced(TASK, form=Form(arguments={}, hold=False))},
        [1, 0],
    ),
    "the other one is lost too": ((LOST, "cut"), {"retries": RetryBody(max_attempts=5)}, [1, 1]),
}


@pytest.mark.parametrize("case", NEVER)
@virtual
async def test_nobody_goes_on_where(case: str) -> None:
    scripts, more, hits = NEVER[case]
    async with ground(*scripts) as place:
        told = await going_on(place, **more)

    assert "One. Two " == "".join(told.seen.texts)
    assert told.seen.error is not None
    assert ("upstream_lost", True) == (told.seen.error["code"], told.seen.error["partial_output"])
    assert hits == place.hits


@virtual
async def test_nobody_goes_on_with_too_little_time() -> None:
    async with ground(["3 x end"] * 25 + ["7 One. 1 Two cut"], "3 x end") as place:
        place.pods.place(("chat", "pod-2"), None)
        for _ in range(25):
            await place.ask(policy=SHORT)
        told = await going_on(place, policy=structs.replace(SHORT, first_segment=9.0))

    assert told.seen.error is not None
    assert "upstream_lost" == told.seen.error["code"]


@virtual
async def test_an_answer_that_has_all_its_tokens_is_complete() -> None:
    task = replaced(TASK, sampling=Sampling(max_tokens=2))
    async with ground(LOST, "0.1 x end") as place:
        told = await going_on(place, task=task)

    assert ("One. Two ", "length", True) == (
        "".join(told.seen.texts),
        told.seen.finish,
        told.seen.done,
    )
    assert [1, 0] == place.hits
