"""Requests under a RoutingPolicy, and how they are explained: at their end, and with the answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from headgate_api.snapshot import (
    Entry,
    FallbackBody,
    RouteBody,
    RouteRule,
    StreamingBody,
    Target,
    TenantBody,
)
from headgate_gateway.edge import heads
from headgate_gateway.explain.header import LONGEST
from headgate_gateway.idempotency.sqlite import SqliteStore
from headgate_gateway.idempotency.store import Claim, Found

from .conftest import KEY, MODEL, NAME, TENANT, Running, api_key, cohort, entry, model, pod, until
from .exchanges import Recorded
from .test_calls import ask, failing
from .test_explain import explained
from .test_telemetry_told import silent
from .upstream import saying

Start = Callable[..., Awaitable[Running]]
HELLO = json.dumps({"model": NAME, "messages": [{"role": "user", "content": "Hi"}]}).encode()
LLAMA = (Target(model="llama"),)
GRANTED = entry(
    "TenantQuota", "acme", TenantBody(tenant="acme", keys=(api_key(KEY),), grants=("Explain",))
)


def routed(*routes: RouteRule, tenant: Entry = GRANTED, **more: Any) -> tuple[Entry, ...]:
    """A policy with these routes, its model and its tenant."""
    body = RouteBody(models=("assistant",), **{"architecture": "Router", "routes": routes} | more)
    return MODEL, tenant, entry("RoutingPolicy", "front", body)


ROUTES = (
    RouteRule(name="tools", when="request.hasTools", targets=LLAMA),
    RouteRule(
        name="long-or-premium",
        when='request.inputTokens > 6000 || user.tier == "premium" || request.turns == 1',
        targets=LLAMA,
    ),
    RouteRule(name="rest", targets=LLAMA),
    RouteRule(name="sorry", fallback_only=True, respond="Later, please."),
)


async def test_each_route_says_why_it_took_the_request_or_did_not(start: Start) -> None:
    running = await start(saying("Hi"), entries=routed(*ROUTES))
    await ask(running, model="assistant")

    found = await explained(running)

    assert {"namespace": "chat", "name": "front", "architecture": "Router"} == found["policy"]
    tools, long, rest, sorry = found["rules"]
    assert ("no", {"request.hasTools": False}, ["request.hasTools is false"]) == (
        tools["matched"],
        tools["read"],
        tools["because"],
    )
    assert ("yes", ["request.turns == 1 is true (request.turns is 1)"]) == (
        long["matched"],
        long["because"],
    )
    assert {"user.tier": "", "request.turns": 1}.items() <= long["read"].items()
    assert ["not reached", "fallback only"] == [rest["matched"], sorry["matched"]]
    (stage,) = found["stages"]
    assert ("long-or-premium", "llama", "only", "given") == tuple(
        stage[name] for name in ("route", "model", "why", "result")
    )


async def answered(running: Running, wish: bytes = b"1", **more: Any) -> str:
    """Ask for an explanation with the answer, and return it."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": "Hello"}]} | more
    headers = {heads.EXPLAIN: wish}
    data = json.dumps(body).encode()
    exchange = Recorded("POST", "/v1/chat/completions", KEY, data, headers)
    await running.gateway.edge.handle(exchange)
    return exchange.headers.get(b"x-headgate-explanation", b"").decode("ascii")


async def test_an_answer_brings_its_explanation_to_who_may_have_it(start: Start) -> None:
    running = await start(saying("Hi"), saying("Hi"), entries=routed(*ROUTES))

    assert (
        "front/long-or-premium; tools=no(request.hasTools=false); "
        'long-or-premium=yes(request.inputTokens=5, request.turns=1, user.tier=""); '
        "target=llama(only)"
    ) == await answered(running)
    assert "" == await answered(running, wish=b"0")
    assert "direct; target=llama" == await answered(running, model=NAME)
    assert "not routed" == await answered(running, model="unknown")


async def test_without_the_grant_the_wish_is_ignored(start: Start) -> None:
    running = await start(saying("Hi"), entries=routed(*ROUTES, tenant=TENANT))

    assert "" == await answered(running)


async def test_a_client_may_send_this_header_of_ours_and_no_other() -> None:
    names = (b"X-Headgate-Explain", b"X-Headgate-Explanation", b"X-Headgate-Tenant")

    assert [heads.EXPLAIN, heads.OURS, heads.OURS] == list(map(heads.learn, names))


async def test_a_header_is_short_and_of_visible_ascii_whatever_is_asked(start: Start) -> None:
    rules = (
        RouteRule(name=f"r{number}", when=f'"tool-{number}" in request.tools', targets=LLAMA)
        for number in range(40)
    )
    running = await start(saying("Hi"), entries=routed(*rules, ROUTES[2]))
    tools = [
        {"type": "function", "function": {"name": f"tool_{number}_{60 * 'x'}"[:64]}}
        for number in range(50)
    ]

    told = await answered(running, tools=tools)

    assert told.endswith("; ...")
    assert len(told) <= LONGEST
    assert told.isprintable()


async def test_every_stage_of_a_course_is_told(start: Start) -> None:
    fast = RouteRule(
        name="fast",
        targets=LLAMA,
        fallback=(FallbackBody(route="sorry", triggers=("Error",)),),
    )
    running = await start(
        failing(503, b"{}"), entries=routed(fast, ROUTES[3], architecture="Single")
    )

    told = await answered(running)
    await asyncio.sleep(0)
    found = await explained(running)

    first, second = found["stages"]
    assert ("fast", "failed", "upstream_unavailable") == tuple(
        first[name] for name in ("route", "result", "reason")
    )
    assert ("sorry", "Error", "fixed", "given") == tuple(
        second[name] for name in ("route", "trigger", "why", "result")
    )
    assert first["attempts"] == [1, 2]
    assert "front/sorry; stage fast=failed(llama(only): upstream_unavailable); " in told
    said = await explained(running, accept="text/plain")
    assert "  1. route fast, model llama (the only target that was ready): it failed: " in said
    assert "  2. route sorry, a fallback, since the one before ended with Error, " in said


async def test_an_answer_that_was_not_accepted_is_told_with_what_was_wrong(start: Start) -> None:
    small = RouteRule(name="small", accept_when="answer.outputTokens > 100", targets=LLAMA)
    large = RouteRule(name="large", targets=(Target(model="big"),))
    entries = routed(small, large, architecture="Cascade")
    big = model(cohort(), name="big", public_name="big")
    running = await start(saying("No"), entries=(*entries, big))
    running.gateway.pods.put(pod("pod-big", uid="uid-big"))

    await ask(running, model="assistant")
    found = await explained(running)

    assert ["yes", "yes"] == [rule["matched"] for rule in found["rules"]]
    first, second = found["stages"]
    assert ("small", "rejected", {"answer.outputTokens": 1}) == tuple(
        first[name] for name in ("route", "result", "read")
    )
    assert ("large", "given", [2]) == tuple(
        second[name] for name in ("route", "result", "attempts")
    )
    assert ["llama", "big"] == [attempt["model"] for attempt in found["attempts"]]
    said = await explained(running, accept="text/plain")
    assert "its answer was not accepted: " in said
    assert "[answer.outputTokens is 1]" in said


async def test_a_stream_in_segments_is_told_by_them(start: Start) -> None:
    rule = RouteRule(name="all", targets=LLAMA, streaming=StreamingBody())
    running = await start(saying("One. ", "Two.\n"), entries=routed(rule, architecture="Single"))

    await ask(running, model="assistant", stream=True)
    segments = (await explained(running))["segments"]

    assert ("complete", 2) == (segments["ending"], segments["count"])
    assert 2 == sum(segments["causes"].values())
    assert segments["first_ms"] > 0
    said = await explained(running, accept="text/plain")
    assert "Segments:\n  2, the first after " in said


async def test_a_request_in_work_is_explained_as_far_as_it_has_come(start: Start) -> None:
    running = await start(silent, entries=routed(*ROUTES))
    asking = asyncio.create_task(ask(running, model="assistant"))
    await until(lambda: running.upstreams[0].requests == 1)

    found = await explained(running)
    said = await explained(running, accept="text/plain")
    asking.cancel()

    assert "outcome" not in found
    assert "time" not in found
    assert "" == found["stages"][0]["result"]
    assert "pod-1" == found["attempts"][0]["pod"]
    assert "\nIt is in work, for " in said
    assert "route long-or-premium, model llama (the only target that was ready): in work" in said


async def test_who_looks_at_a_request_between_its_stages_changes_nothing(
    start: Start, tmp_path: Path
) -> None:
    store = Hesitant(tmp_path / "keys.db", most_bytes=2**26)
    running = await start(saying("Hi"), keys=store)
    exchange = Recorded("POST", "/v1/chat/completions", KEY, HELLO, {b"idempotency-key": b"one"})
    asking = asyncio.create_task(running.gateway.edge.handle(exchange))
    await store.asked.wait()
    found = await explained(running)
    store.go_on.set()
    await asking

    assert ["identity", "parse"] == list(found["timings"]["stages_ms"])
    assert (200, "Hi") == (exchange.status, exchange.text)
    assert b"parse;dur=" in exchange.headers[b"server-timing"]
    assert b"context;dur=" in exchange.headers[b"server-timing"]


class Hesitant(SqliteStore):
    """Gives no key before it is told to."""

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        super().__init__(path, most_bytes=most_bytes)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def claim(self, claim: Claim) -> Found:
        self.asked.set()
        await self.go_on.wait()
        return await super().claim(claim)


async def test_long_values_are_kept_short(start: Start) -> None:
    rules = (
        RouteRule(name="header", when='request.headers["x-long"] == "short"', targets=LLAMA),
        ROUTES[2],
    )
    running = await start(saying("Hi"), entries=routed(*rules, match_headers=("x-long",)))
    body = json.dumps({"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]})
    headers = {b"x-long": 8000 * b"x"}
    exchange = Recorded("POST", "/v1/chat/completions", KEY, body.encode(), headers)
    await running.gateway.edge.handle(exchange)
    await asyncio.sleep(0)

    found = await explained(running)

    (record,) = running.gateway.explanations
    assert len(record.decided) < 512
    assert {"x-long": 64 * "x" + "..."} == found["rules"][0]["read"]["request.headers"]
    assert "no" == found["rules"][0]["matched"]
