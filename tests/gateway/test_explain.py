"""Requests through a gateway, and how they are explained afterwards."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .conftest import Running
from .test_admin import admin
from .test_calls import ask, failing
from .upstream import saying

Start = Callable[..., Awaitable[Running]]
BEARER = {"authorization": "Bearer x"}


async def explained(running: Running, name: str = "test-1", **headers: str) -> Any:
    async with admin(running) as http:
        answer = await http.get(f"/debug/requests/{name}", headers=BEARER | headers)
    assert 200 == answer.status_code
    return answer.text if headers else json.loads(answer.text)


async def test_a_request_without_a_policy_is_explained_in_full(start: Start) -> None:
    running = await start(saying("Good", " day"))
    await ask(running, user="me", max_tokens=9)

    found = await explained(running)

    assert {"operation": "chat", "name": "llama-3-1-8b", "tenant": "acme", "key": "first"} == (
        found["asked"]
    )
    assert "policy" not in found
    assert [("pod-1", "ok")] == [(each["pod"], each["result"]) for each in found["attempts"]]
    budgets = found["budgets"]
    assert (120.0, "policy", 9) == (
        budgets["seconds"],
        budgets["set_by"],
        budgets["max_output_tokens"],
    )
    assert ("ok", 200, 2) == tuple(
        found["outcome"][name] for name in ("code", "status", "output_tokens")
    )
    stages = ["identity", "parse", "routing", "deadline", "input", "context"]
    assert stages == list(found["timings"]["stages_ms"])


async def test_who_prefers_text_gets_words(start: Start) -> None:
    running = await start(saying("Good", " day"))
    await ask(running)

    said = await explained(running, accept="text/plain")

    first, second, *_ = said.splitlines()
    assert (
        'Request test-1: A chat for the model "llama-3-1-8b", asked by tenant acme (key first).'
        == (first)
    )
    assert second.startswith("Answered with status 200 after ")
    assert "No RoutingPolicy claims the name: it is that of the ModelDeployment llama." in said


async def test_a_refusal_names_its_stage_and_its_reason(start: Start) -> None:
    running = await start(saying("Hi"))
    await ask(running, model="unknown")

    found = await explained(running)

    assert {"status": 404, "code": "model_not_found", "stage": "routing"} == found["outcome"]
    assert "attempts" not in found
    said = await explained(running, accept="text/plain")
    assert "Refused by the stage routing with status 404, model_not_found after " in said
    assert "unknown" not in said, "it is no name of ours"


async def test_every_attempt_has_its_pod_its_end_and_its_time(start: Start) -> None:
    running = await start(failing(503, b"{}"), failing(503, b"{}"))
    await ask(running)

    found = await explained(running)

    first, second = found["attempts"]
    assert {"pod-1", "pod-2"} == {first["pod"], second["pod"]}
    assert ["upstream_unavailable"] * 2 == [first["result"], second["result"]]
    assert second["began_ms"] >= first["began_ms"] + first["took_ms"]
    assert "stage" not in found["outcome"], "no stage of the gateway refused it"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other-1", "is not of this gateway: its ids begin {0}-."),
        ("{0}-1", "is not known any more, or never was: of this gateway the last 4000 requests"),
    ],
)
async def test_what_cannot_be_explained_is_told_why(start: Start, name: str, said: str) -> None:
    running = await start(saying("Hi"))
    process = running.gateway.process
    async with admin(running) as http:
        answer = await http.get(f"/debug/requests/{name.format(process)}", headers=BEARER)

    assert 404 == answer.status_code
    assert said.format(process) in answer.text
