"""What model servers are asked about their guesses, and what is told of it."""

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate_api.snapshot import SpeculationBody, StickinessBody, TenantBody
from headgate_gateway.calls.adapter import Adapter, Reader, Sampling, Task
from headgate_gateway.calls.adapters import ADAPTERS, GUESSING
from headgate_gateway.calls.events import End, Event, Text, Usage
from headgate_gateway.explain.words import words
from headgate_gateway.routing.speculation import ROUND

from .conftest import KEY, Running, api_key, cohort, entry, guessing, model
from .test_admin import admin
from .test_decoding import cuts
from .test_routing import Start, ask, front, placed, to
from .upstream import Connection, Script

NAMES: Final = ("rest-guessing", "rest-plain")
MODEL: Final = model(guessing(NAMES[0]), cohort(NAMES[1]), name="rest", public_name="the-rest")
GUESSED: Final = {"total_draft_tokens": "8", "total_accepted_draft_tokens": "6"}


def answer(*texts: str, **last: Any) -> list[bytes]:
    """An answer of the llmapi model: events with all text so far."""
    ends = {"finish_reason": "stop"} | last
    return [
        b"data: %s\n\n" % json.dumps({"text_output": text} | more, separators=(",", ":")).encode()
        for number, text in enumerate(texts, 1)
        for more in [ends if number == len(texts) else {"finish_reason": "None"}]
    ]


def read(reader: Reader, pieces: Sequence[bytes]) -> list[Event]:
    return [*(event for piece in pieces for event in reader.feed(piece)), *reader.end()]


LLMAPI: Final = GUESSING["triton-llmapi"]
TASK: Final = Task(
    endpoint="chat/completions", prompt="Hello", sampling=Sampling(max_tokens=64), body=b"{}"
)


# Reading


@pytest.mark.parametrize(
    ("last", "written", "guessed"),
    [
        ({}, 9, (8, 6)),  # three steps wrote a token each, and six guesses were right
        ({"total_draft_tokens": 8, "total_accepted_draft_tokens": 6}, 9, (8, 6)),
        ({"total_accepted_draft_tokens": "9"}, 11, (8, 8)),
        ({"total_draft_tokens": "800", "total_accepted_draft_tokens": "600"}, 64, (800, 600)),
        ({"total_draft_tokens": None}, 3, (None, None)),
        ({"total_draft_tokens": "-8"}, 3, (None, None)),
        ({"total_draft_tokens": "many"}, 3, (None, None)),
    ],
)
def test_the_last_event_tells_how_many_tokens_were_guessed_and_accepted(
    last: dict[str, Any], written: int, guessed: tuple[int | None, int | None]
) -> None:
    events = read(LLMAPI.reader(TASK), answer("On", "One tw", "One two.", **GUESSED | last))

    usage = Usage(2, written, estimated=True, drafted_tokens=guessed[0], accepted_tokens=guessed[1])
    assert [Text("On"), Text("e tw"), Text("o."), End("stop", usage)] == events


def test_whoever_counts_tokens_is_believed() -> None:
    counts = {"num_input_tokens": 2, "num_output_tokens": 7}
    events = read(LLMAPI.reader(TASK), answer("One.", **GUESSED | counts))

    assert End("stop", Usage(2, 7, drafted_tokens=8, accepted_tokens=6)) == events[-1]


@given(st.data())
def test_guesses_do_not_depend_on_where_bytes_are_cut(data: st.DataObject) -> None:
    whole = b"".join(answer("On", "One", "One two", "One two.", **GUESSED))
    *_, end = read(LLMAPI.reader(TASK), data.draw(cuts(whole)))

    assert End("stop", Usage(2, 10, True, drafted_tokens=8, accepted_tokens=6)) == end


def test_a_text_that_looks_like_it_is_a_text() -> None:
    text = '"total_draft_tokens":"8","total_accepted_draft_tokens":"6"'
    events = read(LLMAPI.reader(TASK), answer(text))

    assert [Text(text), End("stop", Usage(2, 1, True))] == events


def asks(adapter: Adapter) -> bool:
    sent = adapter.request(TASK, call_id="r-1", host="h", served_model="m", left_ms=9, headers=b"")
    return b'"sampling_param_return_perf_metrics":true' in sent


def test_only_pods_that_guess_are_asked_for_it() -> None:
    assert asks(LLMAPI)
    assert not any(map(asks, ADAPTERS.values()))
    assert ADAPTERS["trtllm-serve"] is GUESSING["trtllm-serve"]


# Telling


def answering(accepted: int = 6) -> Script:
    """Tell of guesses whoever asks for it."""

    async def script(connection: Connection) -> None:
        more = {}
        if connection.fields.get("sampling_param_return_perf_metrics"):
            more = GUESSED | {"total_accepted_draft_tokens": str(accepted)}
        await connection.begin()
        await connection.event(text_output="On", finish_reason="None")
        await connection.event(text_output="One.", finish_reason="stop", **more)
        await connection.end()

    return script


FOR_EVER: Final = StickinessBody(ttl=1e12)
"""Nobody is dealt anew while a test runs."""


async def twins(start: Start, scripts: Sequence[Script], **said: Any) -> Running:
    policy = front(to("rest", speculative=SpeculationBody(**said)), stickiness=FOR_EVER)
    ready = dict(zip(NAMES[-len(scripts) :], scripts, strict=True))
    return await placed(start, policy, MODEL, scripts=ready)


async def metrics(running: Running, part: str) -> list[str]:
    async with admin(running) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    found = [line for line in lines if not line.startswith("#") and "_created" not in line]
    return [line.replace("headgate_gateway_speculation_", "") for line in found if part in line]


SESSION: Final = {b"x-session-id": b"a-session"}
PLACE: Final = 'model="rest",namespace="chat",route="front/rest",variant="bf16-eagle3"'


async def test_decisions_guesses_and_what_they_are_worth_are_counted(start: Start) -> None:
    running = await twins(start, [answering(), answering()])
    found = {(await ask(running, headers=SESSION)).headers[b"x-headgate-variant"] for _ in range(9)}
    for number in range(2 * ROUND):
        await ask(running, headers={b"x-session-id": b"session-%d" % number})

    assert {b"bf16-eagle3"} == found
    told = await metrics(running, "speculation")
    decided = {line.rpartition(" ")[0] for line in told if line.startswith("decisions")}
    assert {
        'decisions_total{namespace="chat",outcome="speculative",reason="share",route="front/rest"}',
        'decisions_total{namespace="chat",outcome="plain",reason="rest",route="front/rest"}',
    } == decided
    assert f"on{{{PLACE}}} 1.0" in told
    assert f"acceptance_ratio{{{PLACE}}} 0.75" in told
    labels = 'model="rest",namespace="chat",result="{}",variant="bf16-eagle3"'
    accepted, rejected = (
        float(line.rpartition(" ")[2])
        for result in ("accepted", "rejected")
        for line in told
        if line.startswith(f"draft_tokens_total{{{labels.format(result)}}}")
    )
    assert accepted == 3 * rejected > 0


SHARE: Final = "(it is of the share that goes there): its answer was given"


@pytest.mark.parametrize(
    ("said", "scripts", "variant", "told"),
    [
        ({}, 2, "bf16-eagle3", "to pods that guess ahead"),
        ({}, 1, "bf16", "to plain pods; none of the pods that guess ahead is ready"),
        ({"mode": "Shadow"}, 2, "bf16", "to plain pods by Shadow; Auto: to pods that guess ahead"),
    ],
)
async def test_an_explanation_tells_the_pool_and_why(
    start: Start, said: dict[str, Any], scripts: int, variant: str, told: str
) -> None:
    running = await twins(start, [answering()] * scripts, **said)
    got = await ask(running, headers=SESSION)
    found = running.gateway.explain(got.id)

    assert variant.encode() == got.headers[b"x-headgate-variant"]
    assert not isinstance(found, str)
    target = f"model rest in variant {variant} (the only target that was ready)"
    assert f"{target}, {told} {SHARE}" in words(found)


async def test_what_was_given_up_is_explained_with_its_numbers(start: Start) -> None:
    running = await twins(start, [answering(accepted=2), answering()])
    for _ in range(ROUND):
        await ask(running, headers=SESSION)
    got = await ask(running, headers=SESSION)
    found = running.gateway.explain(got.id)

    assert b"bf16" == got.headers[b"x-headgate-variant"]
    assert not isinstance(found, str)
    told = {"pool": "plain", "outcome": "plain", "reason": "acceptance", "acceptance_percent": 25}
    assert told == msgspec.to_builtins(found)["stages"][0]["speculation"]
    why = "guessing is given up, as too few guesses were right; 25 % of the guesses were right"
    assert f"to plain pods ({why})" in words(found)
    assert f"on{{{PLACE}}} 0.0" in await metrics(running, "speculation_on")


async def test_the_explanation_with_an_answer_tells_it_in_short(start: Start) -> None:
    running = await twins(start, [answering(), answering()], mode="Never")
    tenant = TenantBody(tenant="acme", keys=(api_key(KEY),), grants=("Explain",))
    policy = front(to("rest", speculative=SpeculationBody(mode="Never")))
    await running.take(policy, MODEL, entry("TenantQuota", "acme", tenant))
    got = await ask(running, headers={b"x-headgate-explain": b"1"})

    assert b"front/rest; target=rest(only), plain(never)" == got.headers[b"x-headgate-explanation"]
