"""Routes of a RoutingPolicy, seen through a whole gateway."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest
from structlog.testing import capture_logs

from headgate_api.labels import COHORT
from headgate_api.snapshot import (
    Cohort,
    GenerationBody,
    RouteBody,
    RouteRule,
    StickinessBody,
    StreamingBody,
    Target,
    ToolsBody,
)
from headgate_gateway.explain.explanation import Explanation

from .conftest import KEY, TENANT, Running, entry, model, pod
from .exchanges import Recorded
from .trtllm_serve import TrtllmServe
from .upstream import Connection, Script, saying

Start = Callable[..., Awaitable[Running]]
NAME = "assistant"
NUMBERS = count()
HELLO: Any = [{"role": "user", "content": "Hello"}]
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


def served(name: str, *, runtime: str = "triton-llmapi", variants: tuple[str, ...] = ()) -> Any:
    cohorts = [
        Cohort(
            name=f"{name}-{variant}",
            variant=variant,
            revision="0a1b2c3d",
            runtime=runtime,  # type: ignore[arg-type]
            served_model="ensemble" if runtime == "triton-python" else "tensorrt_llm",
        )
        for variant in variants or ("bf16",)
    ]
    return model(*cohorts, name=name, public_name=f"the-{name}")


def to(name: str, target: str = "", **more: Any) -> RouteRule:
    return RouteRule(**{"name": name, "targets": (Target(model=target or name),)} | more)


def front(*rules: RouteRule, **more: Any) -> Any:
    body = {"models": (NAME,), "architecture": "Router", "routes": rules} | more
    return entry("RoutingPolicy", "front", RouteBody(**body))


async def placed(start: Start, policy: Any, *models: Any, scripts: Any, **more: Any) -> Running:
    """A gateway with a pod for each script, by cohort."""
    running = await start(*scripts.values(), entries=(policy, TENANT, *models), **more)
    for number, name in enumerate(scripts, 1):
        owner = name.rpartition("-")[0]
        labels = {COHORT: name}
        ip = f"127.0.0.{number}"
        running.gateway.pods.put(pod(f"pod-{number}", ip, uid=f"uid-{owner}", labels=labels))
    return running


def exchange(path: str = "chat/completions", **more: Any) -> Recorded:
    headers = more.pop("headers", {})
    body = {"model": NAME, "messages": HELLO} | more
    sent = {name: value for name, value in body.items() if value is not None}
    made = Recorded("POST", f"/v1/{path}", KEY, json.dumps(sent).encode(), headers)
    made.id = f"test-{next(NUMBERS)}"
    return made


async def ask(running: Running, **more: Any) -> Recorded:
    asked = exchange(**more)
    await running.gateway.edge.handle(asked)
    await asyncio.sleep(0)  # then it is told about
    return asked


# Which route


ROUTED = front(
    to("long", when="request.inputTokens > 200"),
    to("red", when="request.headers['x-team'] == 'red'"),
    to("rest"),
    match_headers=("x-team",),
)


@pytest.mark.parametrize(
    ("more", "route"),
    [
        ({}, "rest"),
        ({"messages": [{"role": "user", "content": "word " * 400}]}, "long"),
        ({"headers": {b"x-team": b"red"}}, "red"),
        ({"headers": {b"x-team": b"blue"}}, "rest"),
    ],
)
async def test_the_first_route_whose_rule_holds_takes_the_request(
    start: Start, more: dict[str, Any], route: str
) -> None:
    names = ("long", "red", "rest")
    running = await placed(
        start,
        ROUTED,
        *map(served, names),
        scripts={f"{name}-bf16": saying(f"I am {name}") for name in names},
    )
    found = await ask(running, **more)

    assert (200, f"I am {route}") == (found.status, found.text)
    assert f"front/{route}".encode() == found.headers[b"x-headgate-route"]
    assert route.encode() == found.headers[b"x-headgate-model"]


async def test_a_rule_that_fails_does_not_match_and_it_is_known_why(start: Start) -> None:
    running = await placed(start, ROUTED, served("rest"), scripts={"rest-bf16": saying("Fine")})
    asked = await ask(running)
    found = running.gateway.explain(asked.id)

    assert isinstance(found, Explanation)
    assert "front/rest" == found.route
    long, red, rest = found.rules
    assert ["request.inputTokens"] == list(long.read)
    assert red.error is not None
    assert "x-team" in red.error
    assert [None, None] == [long.error, rest.error]


async def test_a_policy_none_of_whose_routes_takes_the_rest_is_not_taken(start: Start) -> None:
    with capture_logs():
        running = await start(
            saying("Hi"), entries=(front(to("llama", when="true || false")), TENANT)
        )

    assert 404 == (await ask(running)).status


# Which target


VARIANTS = served("rest", variants=("bf16", "fp8"))


@pytest.mark.parametrize(
    ("variants", "ready", "answers"),
    [
        (("fp8", "bf16"), ("bf16", "fp8"), "fp8"),
        (("fp8", "bf16"), ("bf16",), "bf16"),
        (("fp8",), ("bf16", "fp8"), "fp8"),
    ],
)
async def test_the_first_variant_with_a_ready_pod_answers(
    start: Start, variants: tuple[str, ...], ready: tuple[str, ...], answers: str
) -> None:
    policy = front(RouteRule(name="all", targets=(Target(model="rest", variants=variants),)))
    running = await placed(
        start, policy, VARIANTS, scripts={f"rest-{name}": saying(name) for name in ready}
    )
    found = {(await ask(running)).text for _ in range(6)}

    assert {answers} == found


async def test_a_variant_that_is_not_listed_is_never_asked(start: Start) -> None:
    policy = front(RouteRule(name="all", targets=(Target(model="rest", variants=("fp8",)),)))
    running = await placed(start, policy, VARIANTS, scripts={"rest-bf16": saying("Hi")})

    assert (503, "model_not_ready") == ((found := await ask(running)).status, found.code)


SPLIT = RouteRule(name="split", targets=(Target(model="one"), Target(model="two")))
BOTH = {"one-bf16": saying("one"), "two-bf16": saying("two")}


async def split(start: Start, **stickiness: Any) -> Running:
    policy = front(SPLIT, stickiness=StickinessBody(**stickiness))
    return await placed(start, policy, served("one"), served("two"), scripts=BOTH)


async def test_a_session_keeps_its_side_on_every_gateway(start: Start) -> None:
    gateways = [await split(start), await split(start)]
    sides: dict[int, set[str]] = {}
    for number in range(24):
        headers = {b"x-session-id": b"session-%d" % number}
        for running in gateways * 2:
            sides.setdefault(number, set()).add((await ask(running, headers=headers)).text)

    assert {1} == {len(found) for found in sides.values()}
    assert {"one", "two"} == set.union(*sides.values())


@pytest.mark.parametrize(
    ("stickiness", "more", "count"),
    [
        ({"key": "User"}, {"user": "jo"}, 1),
        ({"key": "Tenant"}, {}, 1),
        ({"key": "Session", "header": "x-chat"}, {"headers": {b"x-chat": b"7"}}, 1),
        ({"key": "Session"}, {}, 2),
        ({"key": "User"}, {}, 2),
        ({"key": "None"}, {"user": "jo", "headers": {b"x-session-id": b"7"}}, 2),
    ],
)
async def test_what_stands_for_a_session_is_the_policy_s_to_say(
    start: Start, stickiness: dict[str, Any], more: dict[str, Any], count: int
) -> None:
    running = await split(start, **stickiness)

    assert count == len({(await ask(running, **more)).text for _ in range(40)})


async def test_a_session_goes_elsewhere_only_while_its_side_is_not_ready(start: Start) -> None:
    running = await split(start)
    more = {"headers": {b"x-session-id": b"7"}}
    side = (await ask(running, **more)).text
    number = 1 + ["one", "two"].index(side)
    running.gateway.pods.gone("chat", f"pod-{number}")
    elsewhere = (await ask(running, **more)).text
    labels = {COHORT: f"{side}-bf16"}
    again = pod(f"pod-{number}", f"127.0.0.{number}", uid=f"uid-{side}", labels=labels)
    running.gateway.pods.put(again)

    assert {"one", "two"} == {side, elsewhere}
    assert side == (await ask(running, **more)).text


# A fixed answer

CLOSED = front(
    RouteRule(name="closed", when="request.turns == 1", respond="We are closed."), to("rest")
)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_fixed_answer_needs_no_model(start: Start, stream: bool) -> None:
    running = await placed(start, CLOSED, scripts={})
    options = {"stream_options": {"include_usage": True}} if stream else {}
    found = await ask(running, stream=stream, **options)

    assert (200, "We are closed.") == (found.status, found.text)
    assert b"front/closed" == found.headers[b"x-headgate-route"]
    assert b"x-headgate-model" not in found.headers
    usage = found.events[-1]["usage"]
    assert (0, 0) == (usage["prompt_tokens"], usage["completion_tokens"])
    reasons = {event["choices"][0]["finish_reason"] for event in found.events if event["choices"]}
    assert "stop" in reasons


async def test_a_fixed_answer_is_given_to_completions_and_not_to_embeddings(start: Start) -> None:
    running = await placed(start, CLOSED, scripts={})
    text = await ask(running, path="completions", messages=None, prompt="Once")
    vectors = await ask(running, path="embeddings", messages=None, input="Once")

    assert "We are closed." == text.events[0]["choices"][0]["text"]
    assert (400, "unsupported_parameter") == (vectors.status, vectors.code)


# What a route allows


def called(*outputs: str) -> list[dict[str, Any]]:
    """A conversation in which the model has called a tool for each output."""
    told = list(HELLO)
    for number, output in enumerate(outputs):
        function = {"name": "clock", "arguments": "{}"}
        call = {"id": str(number), "type": "function", "function": function}
        told.append({"role": "assistant", "content": None, "tool_calls": [call]})
        told.append({"role": "tool", "tool_call_id": str(number), "content": output})
    return told


@pytest.mark.parametrize(
    ("rule", "more", "code", "param"),
    [
        (
            {"tools": ToolsBody(forbidden=True)},
            {"tools": [CLOCK]},
            "unsupported_parameter",
            "tools",
        ),
        (
            {"tools": ToolsBody(max_iterations=2)},
            {"messages": called("a", "b")},
            "tool_iterations_exceeded",
            "messages",
        ),
        (
            {"streaming": StreamingBody(mode="Refused")},
            {"stream": True},
            "unsupported_value",
            "stream",
        ),
    ],
)
async def test_what_a_route_does_not_allow_is_refused_by_name(
    start: Start, rule: dict[str, Any], more: dict[str, Any], code: str, param: str
) -> None:
    running = await placed(
        start, front(to("rest", **rule)), served("rest"), scripts={"rest-bf16": saying("Hi")}
    )
    found = await ask(running, **more)

    assert (400, code) == (found.status, found.code)
    assert param == found.events[0]["error"]["param"]
    assert b"routing" == found.headers[b"x-headgate-stage"]
    assert 200 == (await ask(running)).status


async def test_calls_of_tools_are_counted_since_the_user_s_last_message(start: Start) -> None:
    policy = front(to("rest", tools=ToolsBody(max_iterations=2)))
    running = await placed(start, policy, served("rest"), scripts={"rest-bf16": saying("Hi")})

    assert 200 == (await ask(running, messages=called("a"))).status
    assert 200 == (await ask(running, messages=[*called("a", "b"), *HELLO])).status


# How to generate


def noting(seen: list[dict[str, Any]], script: Script) -> Script:
    async def play(connection: Connection) -> None:
        seen.append(dict(connection.fields))
        await script(connection)

    return play


GENERATION = GenerationBody(
    temperature=0.5,
    top_p=0.9,
    seed=7,
    max_output_tokens=100,
    cap_temperature=0.8,
    cap_max_output_tokens=200,
)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {"temperature": 0.5, "top_p": 0.9, "seed": 7, "max_tokens": 100}),
        (
            {"temperature": 2.0, "top_p": 0.1, "seed": 1, "max_tokens": 999},
            {"temperature": 0.8, "top_p": 0.1, "seed": 1, "max_tokens": 200},
        ),
        (
            {"temperature": 0.0, "max_completion_tokens": 3},
            {"temperature": 0.0, "top_p": 0.9, "seed": 7, "max_tokens": 3},
        ),
    ],
)
@pytest.mark.parametrize("runtime", ["triton-llmapi", "trtllm-serve"])
async def test_a_route_s_defaults_and_caps_reach_every_runtime(
    start: Start, runtime: str, asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    seen: list[dict[str, Any]] = []
    script = saying("Hi") if runtime == "triton-llmapi" else TrtllmServe({"content": "Hi"})
    running = await placed(
        start,
        front(to("rest", generation=GENERATION)),
        served("rest", runtime=runtime),
        scripts={"rest-bf16": noting(seen, script)},
    )
    found = await ask(running, **asked)

    assert 200 == found.status
    prefix = "sampling_param_" if runtime == "triton-llmapi" else ""
    assert sent == {name: seen[0][f"{prefix}{name}"] for name in sent}


async def test_a_body_that_a_route_changes_nothing_of_goes_on_as_it_is(start: Start) -> None:
    seen: list[dict[str, Any]] = []
    script = noting(seen, TrtllmServe({"content": "Hi"}))
    running = await placed(
        start,
        front(to("rest", generation=GenerationBody(cap_temperature=1.5))),
        served("rest", runtime="trtllm-serve"),
        scripts={"rest-bf16": script},
    )
    await ask(running, temperature=1.25, max_tokens=5)

    assert {
        "model": "tensorrt_llm",
        "messages": HELLO,
        "temperature": 1.25,
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    } == seen[0]
