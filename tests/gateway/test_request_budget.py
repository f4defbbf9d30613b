"""What one request may use, where its first answer is its last: what the client and models see."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headgate_api.snapshot import Entry, RequestLimits, TenantBody

from .conftest import ENSEMBLE, KEY, MODEL, Running, api_key, cohort, entry, model
from .exchanges import Recorded
from .test_calls import ask
from .trtllm_serve import TrtllmServe
from .upstream import Connection, ensemble_saying, saying

Start = Callable[..., Awaitable[Running]]


def tenant(tokens: int | None = None, calls: int | None = None) -> Entry:
    limits = RequestLimits(max_total_tokens=tokens, max_calls=calls)
    body = TenantBody(tenant="acme", keys=(api_key(KEY),), request=limits)
    return entry("TenantQuota", "acme", body, requires=("request-budget",))


async def post(running: Running, path: str, **body: Any) -> Recorded:
    data = json.dumps({"model": "llama-3-1-8b"} | body).encode()
    exchange = Recorded("POST", f"/v1/{path}", KEY, data)
    await running.gateway.edge.handle(exchange)
    return exchange


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_ends_where_the_budget_does(start: Start, stream: bool) -> None:
    told: list[int] = []
    answer = ensemble_saying("Good", " day")

    async def script(connection: Connection) -> None:
        told.append(connection.fields["max_tokens"])
        await answer(connection)

    running = await start(script, entries=(ENSEMBLE, tenant(tokens=100)))
    exchange = await ask(running, max_tokens=1000, stream=stream)

    assert "Good day" == exchange.text
    (granted,) = told
    assert 50 < granted < 100


async def test_a_runtime_that_speaks_openai_is_told_so_too(start: Start) -> None:
    script = TrtllmServe({"content": "Hi"})
    served = model(cohort(runtime="trtllm-serve"))
    running = await start(script, entries=(served, tenant(tokens=100)))
    exchange = await ask(running, max_tokens=1000)

    assert 200 == exchange.status
    assert 50 < script.seen[0]["max_tokens"] < 100


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "Hello there"}]}),
        ("chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "stream": True}),
        ("completions", {"prompt": "Once upon a time"}),
        ("embeddings", {"input": ["Once upon a time", "there was a lighthouse"]}),
    ],
)
async def test_a_prompt_that_takes_all_of_it_is_refused(
    start: Start, path: str, body: dict[str, Any]
) -> None:
    running = await start(saying("Hi"), entries=(MODEL, tenant(tokens=2)))
    exchange = await post(running, path, **body)

    assert (429, "token_budget_exceeded") == (exchange.status, exchange.code)
    error = exchange.events[0]["error"]
    assert ("insufficient_quota", None) == (error["type"], error["param"])
    assert b"false" == exchange.headers[b"x-should-retry"]
    assert b"retry-after" not in exchange.headers
    assert 0 == running.upstreams[0].requests


async def test_a_budget_of_calls_counts_no_tokens(start: Start) -> None:
    running = await start(saying("Hi"), entries=(MODEL, tenant(calls=1)))

    assert 200 == (await ask(running)).status


async def test_the_next_request_has_a_budget_of_its_own(start: Start) -> None:
    running = await start(saying("Hi"), entries=(MODEL, tenant(tokens=200, calls=1)))

    assert [200, 200] == [(await ask(running)).status for _ in range(2)]
