"""Cascades and fallbacks of a RoutingPolicy, seen through a whole gateway."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headgate_api.snapshot import FallbackBody, RouteRule
from headgate_gateway.calls.ask import Patience
from headgate_gateway.gateway import DRAINING
from headgate_gateway.idempotency.sqlite import SqliteStore

from .conftest import Running, until
from .test_calls import failing
from .test_http import dial, post
from .test_routing import ask, exchange, front, placed, served, to
from .trtllm_serve import TrtllmServe
from .upstream import Connection, Script, saying

Start = Callable[..., Awaitable[Running]]

GATED = front(
    to("small", accept_when="answer.text.size() > 5"), to("large"), architecture="Cascade"
)


async def gated(start: Start, small: Script, large: Script, **more: Any) -> Running:
    scripts = {"small-bf16": small, "large-bf16": large}
    return await placed(start, GATED, served("small"), served("large"), scripts=scripts, **more)


@pytest.mark.parametrize("stream", [True, False])
async def test_only_the_accepted_answer_of_a_cascade_is_given(start: Start, stream: bool) -> None:
    running = await gated(start, saying("No", " no"), saying("Certainly", " not"))
    lines: list[bytes] = []
    running.gateway.inference.teller.write = lines.append
    found = await ask(running, stream=stream)

    assert (200, "Certainly not") == (found.status, found.text)
    assert b"front/large" == found.headers[b"x-headgate-route"]
    assert b"large" == found.headers[b"x-headgate-model"]
    assert b"No" not in found.data.replace(b"not", b"").replace(b"Not", b"")
    told = json.loads(lines[0])
    assert ("front/large", "large", 2) == (told["route"], told["model"], told["attempts"])
    assert ["small", "large"] == [each["model"] for each in told["tries"]]
    assert [2, 2] == [each["output_tokens"] for each in told["tries"]]
    counted = {k: int(n.value) for k, n in running.gateway.metrics.route_stages.items()}
    assert {("front/small", "rejected"): 1, ("front/large", "given"): 1} == counted
    tokens = {
        k: int(n.value) for k, n in running.gateway.metrics.tokens.items() if k[3] == "output"
    }
    assert {"small": 2, "large": 2} == {key[1]: count for key, count in tokens.items()}
    assert not running.gateway.metrics.retries.items()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_nobody_accepts_is_refused_before_anything_is_sent(
    start: Start, stream: bool
) -> None:
    policy = front(to("small", accept_when="answer.text.size() > 5"), architecture="Single")
    running = await placed(start, policy, served("small"), scripts={"small-bf16": saying("No")})
    found = await ask(running, stream=stream)

    assert (502, "answer_not_accepted") == (found.status, found.code)
    assert b"No" not in found.data.replace(b"Not", b"").replace(b"not", b"")


async def test_a_client_that_waits_for_a_stage_gets_signs_of_life(start: Start) -> None:
    go_on = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.begin()
        await go_on.wait()
        await connection.event(text_output="No", finish_reason="stop")
        await connection.end()

    running = await gated(start, slow, saying("Certainly"), patience=Patience(beat=0.01))
    asked = exchange(stream=True)
    giving = asyncio.create_task(running.gateway.edge.handle(asked))
    await until(lambda: asked.data.count(b": ") >= 3)
    go_on.set()
    await giving

    assert asked.data.startswith(b": ")
    assert b"stage small" in asked.data
    assert ("Certainly", 200) == (asked.text, asked.status)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_stage_in_work(start: Start, stream: bool) -> None:
    async def silent(connection: Connection) -> None:
        await connection.begin()
        await connection.event(text_output="No", finish_reason="None")
        await connection.left()

    running = await gated(start, silent, saying("Certainly"))
    _, writer = await dial(running)
    writer.write(post(exchange(stream=stream).body))
    small, large = running.upstreams
    await until(lambda: small.requests == 1)
    writer.close()
    await until(lambda: not running.gateway.inference.requests and not small.open)

    assert 0 == large.requests
    counted = {k: int(n.value) for k, n in running.gateway.metrics.route_stages.items()}
    assert {("front/small", "stopped"): 1} == counted
    assert not running.gateway.inference.calls


async def test_a_drain_ends_a_stage_and_says_why(start: Start) -> None:
    async def silent(connection: Connection) -> None:
        await connection.begin()
        await connection.left()

    running = await gated(start, silent, saying("Certainly"))
    asked = exchange()
    giving = asyncio.create_task(running.gateway.edge.handle(asked))
    await until(lambda: running.upstreams[0].requests == 1)
    running.gateway.inference.stop(DRAINING)
    await giving

    assert (503, "gateway_draining") == (asked.status, asked.code)


async def test_a_course_runs_once_for_an_idempotency_key(start: Start, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "keys.db", most_bytes=2**26)
    running = await gated(start, saying("No"), saying("Certainly"), keys=store)
    headers = {b"idempotency-key": b"order-7"}
    first = await ask(running, headers=headers, stream=True)
    again = await ask(running, headers=headers, stream=True)

    assert ("Certainly", first.data) == (first.text, again.data)
    assert [1, 1] == [upstream.requests for upstream in running.upstreams]


async def test_log_probabilities_are_asked_for_and_taken_out_again(start: Start) -> None:
    seen: list[dict[str, Any]] = []
    policy = front(
        to("sure", accept_when="answer.logprob.mean > -1.0"), to("rest"), architecture="Cascade"
    )

    def speaking(logprob: float) -> Script:
        async def play(connection: Connection) -> None:
            seen.append(dict(connection.fields))
            told = {"content": [{"token": "Hi", "logprob": logprob, "bytes": None}]}
            await TrtllmServe({"content": "Hi", "logprobs": told})(connection)

        return play

    models = (served("sure", runtime="trtllm-serve"), served("rest", runtime="trtllm-serve"))
    running = await placed(
        start,
        policy,
        *models,
        scripts={"sure-bf16": speaking(-0.5), "rest-bf16": speaking(-0.1)},
    )
    silent, wanted = await ask(running), await ask(running, logprobs=True)

    assert [True, True] == [each["logprobs"] for each in seen]
    assert b"front/sure" == silent.headers[b"x-headgate-route"]
    assert silent.events[0]["choices"][0]["logprobs"] is None
    assert wanted.events[0]["choices"][0]["logprobs"] is not None


async def test_a_model_without_log_probabilities_is_not_accepted_for_them(start: Start) -> None:
    policy = front(
        to("small", accept_when="answer.logprob.mean > -1.0"), to("large"), architecture="Cascade"
    )
    running = await placed(
        start,
        policy,
        served("small"),
        served("large"),
        scripts={"small-bf16": saying("Hi"), "large-bf16": saying("Certainly")},
    )

    assert "Certainly" == (await ask(running)).text


async def test_a_fixed_answer_after_models_that_failed_still_counts_them(start: Start) -> None:
    policy = front(
        to("small", fallback=(FallbackBody(route="sorry", triggers=("Error",)),)),
        RouteRule(name="sorry", fallback_only=True, respond="Come back later."),
    )

    running = await placed(
        start, policy, served("small"), scripts={"small-bf16": failing(500, b"no")}
    )
    found = await ask(running, stream=True)

    assert (200, "Come back later.") == (found.status, found.text)
    assert b"front/sorry" == found.headers[b"x-headgate-route"]
    counted = {k: int(n.value) for k, n in running.gateway.metrics.attempts.items()}
    assert {("chat", "small", "bf16", "upstream_error"): 1} == counted
    assert 0 == running.gateway.metrics.bugs.of().value


async def test_a_request_that_uses_none_of_it_gets_a_bare_call(start: Start) -> None:
    running = await placed(
        start, front(to("rest")), served("rest"), scripts={"rest-bf16": saying("Hi")}
    )
    found = await ask(running)

    assert "Hi" == found.text
    assert not running.gateway.metrics.route_stages.items()


async def test_embeddings_fall_back_too(start: Start) -> None:
    policy = front(
        to("fast", fallback=(FallbackBody(route="safe", triggers=("Error",)),)),
        to("safe", fallback_only=True, accept_when="answer.refused"),
    )

    running = await placed(
        start,
        policy,
        *(served(name, runtime="trtllm-serve") for name in ("fast", "safe")),
        scripts={"fast-bf16": failing(500, b"no"), "safe-bf16": TrtllmServe(vectors=[[0.5, 0.25]])},
    )
    found = await ask(running, path="embeddings", messages=None, input="Once")

    assert (200, b"front/safe") == (found.status, found.headers[b"x-headgate-route"])
    assert [0.5, 0.25] == found.events[0]["data"][0]["embedding"]
