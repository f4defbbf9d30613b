"""What each stage says, seen through whole requests without a network."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, get_args

import pytest
from structlog.testing import capture_logs

from headgate_api.snapshot import (
    Identity,
    InputRule,
    ModelBody,
    RouteBody,
    RouteRule,
    SafetyBody,
    Target,
    TenantBody,
)
from headgate_gateway.context.write_prompt import WritePrompt
from headgate_gateway.edge import identity
from headgate_gateway.edge.chat_request import Role
from headgate_gateway.routing.pods import Pool
from headgate_gateway.telemetry.logs import with_request_id
from headgate_policy.chat import COMPILED
from headgate_policy.snapshot import make_entry

from .conftest import KEY, MODEL, NAME, TENANT, Running, api_key, cohort, entry, model, pod
from .exchanges import Recorded
from .test_calls import ask
from .upstream import Connection, saying

Start = Callable[..., Awaitable[Running]]


async def say(running: Running, *messages: dict[str, Any], **more: Any) -> Recorded:
    return await ask(running, messages=list(messages), **more)


# identity


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", f"Bearer {KEY} x", KEY]
)
async def test_only_a_known_key_opens(start: Start, header: str) -> None:
    running = await start()
    exchange = Recorded("GET", "/v1/models", headers={b"authorization": header.encode()})
    await running.gateway.edge.handle(exchange)

    assert (401, "invalid_api_key") == (exchange.status, exchange.code)
    assert b"Bearer" == exchange.headers[b"www-authenticate"]


async def test_the_scheme_is_read_in_any_case(start: Start) -> None:
    running = await start()
    headers = {b"authorization": b"bearer " + KEY.encode()}
    exchange = Recorded("GET", "/v1/models", headers=headers)
    await running.gateway.edge.handle(exchange)

    assert 200 == exchange.status


async def test_what_is_far_too_long_for_a_key_is_not_remembered(start: Start) -> None:
    running = await start()
    before = identity._known.cache_info()
    headers = {b"authorization": b"Bearer " + bytes(identity.LONGEST)}
    exchange = Recorded("GET", "/v1/models", headers=headers)
    await running.gateway.edge.handle(exchange)

    assert (401, "invalid_api_key") == (exchange.status, exchange.code)
    assert before == identity._known.cache_info()


@pytest.mark.parametrize(("expires_at", "status"), [(1, 401), (4_000_000_000, 200)])
async def test_a_key_ends_when_it_expires(start: Start, expires_at: int, status: int) -> None:
    body = TenantBody(tenant="acme", keys=(api_key(KEY, expires_at=expires_at),))
    running = await start(saying("Hi"), entries=(MODEL, entry("TenantQuota", "acme", body)))

    assert status == (await ask(running)).status


async def test_without_a_snapshot_nobody_is_turned_away_for_good(start: Start) -> None:
    running = await start(entries=())
    exchange = await ask(running)

    assert (503, "policy_not_loaded") == (exchange.status, exchange.code)
    assert b"2" == exchange.headers[b"retry-after"]


# parse

MESSAGES = [{"role": "user", "content": "Hello"}]


MISSING = "missing_required_parameter"
UNSUPPORTED = "unsupported_parameter"
TOOL = {"type": "function", "function": {"name": "clock"}}
SECOND = "tools[1].function.name"


def schema_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}


BAD_BODIES: list[tuple[bytes | dict[str, Any], str, str | None]] = [
    (b"", "invalid_json", None),
    (b"{", "invalid_json", None),
    (b'{"model": "\xff"}', "invalid_json", None),
    (b'{"tools": [{"function": {"parameters": ' + b"[" * 100_000, "invalid_json", None),
    (b"[]", "invalid_value", None),
    ({"messages": MESSAGES}, "missing_required_parameter", "model"),
    ({"model": NAME}, "missing_required_parameter", "messages"),
    ({"model": 1, "messages": MESSAGES}, "invalid_value", "model"),
    ({"model": NAME, "messages": []}, "invalid_value", "messages"),
    ({"model": NAME, "messages": "Hello"}, "invalid_value", "messages"),
    ({"model": NAME, "messages": [{"role": "boss"}]}, "invalid_value", "messages[0].role"),
    (
        {"model": NAME, "messages": [{"role": "user"}]},
        "missing_required_parameter",
        "messages[0].content",
    ),
    (
        {"model": NAME, "messages": [{"role": "tool", "content": "4"}]},
        "missing_required_parameter",
        "messages[0].tool_call_id",
    ),
    ({"model": NAME, "messages": [{}]}, "missing_required_parameter", "messages[0].role"),
    (
        {"model": NAME, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "invalid_value",
        "messages[0].content[0].type",
    ),
    ({"model": NAME, "messages": MESSAGES, "stream": "yes"}, "invalid_value", "stream"),
    ({"model": NAME, "messages": MESSAGES, "temperature": 3}, "invalid_value", "temperature"),
    ({"model": NAME, "messages": MESSAGES, "top_p": 0}, "invalid_value", "top_p"),
    ({"model": NAME, "messages": MESSAGES, "max_tokens": 0}, "invalid_value", "max_tokens"),
    ({"model": NAME, "messages": MESSAGES, "max_tokens": 1.5}, "invalid_value", "max_tokens"),
    ({"model": NAME, "messages": MESSAGES, "stop": 5 * ["a"]}, "invalid_value", "stop"),
    ({"model": NAME, "messages": MESSAGES, "stop": [""]}, "invalid_value", "stop[0]"),
    ({"model": NAME, "messages": MESSAGES, "top_k": 5}, "unknown_parameter", "top_k"),
    ({"model": NAME, "messages": MESSAGES, "n": 2}, "unsupported_value", "n"),
    ({"model": NAME, "messages": MESSAGES, "n": True}, "unsupported_value", "n"),
    ({"model": NAME, "messages": MESSAGES, "tools": [TOOL]}, "unsupported_parameter", "tools"),
    ({"model": NAME, "messages": MESSAGES, "tools": [{}]}, MISSING, "tools[0].type"),
    ({"model": NAME, "messages": MESSAGES, "tools": [TOOL, TOOL]}, "invalid_value", SECOND),
    ({"model": NAME, "messages": MESSAGES, "tool_choice": "auto"}, "invalid_value", "tool_choice"),
    ({"model": NAME, "messages": MESSAGES, "logprobs": True}, "unsupported_parameter", "logprobs"),
    ({"model": NAME, "messages": MESSAGES, "logit_bias": {"1": 5}}, UNSUPPORTED, "logit_bias"),
    ({"model": NAME, "messages": MESSAGES, "top_logprobs": 2}, "invalid_value", "top_logprobs"),
    ({"model": NAME, "messages": MESSAGES, "store": True}, "unsupported_value", "store"),
    ({"model": NAME, "messages": MESSAGES, "audio": {}}, UNSUPPORTED, "audio"),
    (
        {"model": NAME, "messages": MESSAGES, "response_format": {"type": "xml"}},
        "invalid_value",
        "response_format.type",
    ),
    (
        {"model": NAME, "messages": MESSAGES, "response_format": schema_format({"type": "x"})},
        "invalid_value",
        "response_format",
    ),
    (
        {"model": NAME, "messages": MESSAGES, "reasoning_effort": "high"},
        "unsupported_parameter",
        "reasoning_effort",
    ),
    (
        {"model": NAME, "messages": MESSAGES, "stream_options": {"include_usage": True}},
        "invalid_value",
        "stream_options",
    ),
]


@pytest.mark.parametrize("case", range(len(BAD_BODIES)))
async def test_a_body_that_makes_no_sense_is_refused_by_name(start: Start, case: int) -> None:
    body, code, param = BAD_BODIES[case]
    running = await start(saying("Hi"))
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    exchange = Recorded("POST", "/v1/chat/completions", KEY, data)
    await running.gateway.edge.handle(exchange)

    assert (400, code) == (exchange.status, exchange.code)
    assert param == exchange.events[0]["error"]["param"]
    assert 0 == running.upstreams[0].requests


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"messages": [{"role": "boss", "content": "Hi"}]},
            "'messages[0].role': Invalid enum value 'boss'; use "
            + " or ".join(get_args(Role))
            + ".",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "'messages[0].content[0].type': Invalid value 'image_url'; use text or refusal.",
        ),
        ({"x" * 5000: 1}, f"Unknown parameter: '{'x' * 128}'."),
        ({"n": 2}, "'n' is supported only as 1."),
    ],
    ids=["role", "part", "long name", "value"],
)
async def test_a_refusal_says_what_would_be_right(
    start: Start, more: dict[str, Any], message: str
) -> None:
    running = await start(saying("Hi"))

    assert message == (await ask(running, **more)).events[0]["error"]["message"]


async def test_harmless_values_of_what_is_not_supported_pass(start: Start) -> None:
    running = await start(saying("Hi"))
    exchange = await ask(
        running,
        n=1,
        tools=None,
        tool_choice="none",
        response_format={"type": "text"},
        logprobs=False,
        user="u-1",
        metadata={"a": "b"},
        store=False,
    )
    assert 200 == exchange.status


async def test_an_earlier_answer_may_be_sent_back_as_the_sdk_dumps_it(start: Start) -> None:
    running = await start(saying("Hi"))
    earlier = {
        "role": "assistant",
        "content": "Hello!",
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert 200 == (await say(running, *MESSAGES, earlier, *MESSAGES)).status


# route


async def test_a_model_that_the_tenant_may_not_use_does_not_exist_for_it(start: Start) -> None:
    body = TenantBody(tenant="acme", keys=(api_key(KEY),), allowed_models=("qwen-*",))
    running = await start(saying("Hi"), entries=(MODEL, entry("TenantQuota", "acme", body)))
    listed = Recorded("GET", "/v1/models", KEY)
    await running.gateway.edge.handle(listed)

    assert (404, "model_not_found") == ((await ask(running)).status, (await ask(running)).code)
    assert [] == listed.events[0]["data"]


def route(*targets: Target, models: tuple[str, ...] = ("chat",)) -> Any:
    routes = (RouteRule(name="all", targets=targets),)
    return entry("RoutingPolicy", "front", RouteBody(models=models, routes=routes, created=9))


async def test_a_policy_goes_before_the_model_that_has_the_name(start: Start) -> None:
    entries = (MODEL, TENANT, route(Target(model="llama"), models=("chat", NAME)))
    running = await start(saying("Hi"), entries=entries)
    for name in ("chat", NAME):
        exchange = await ask(running, model=name)
        assert (200, b"front/all") == (exchange.status, exchange.headers[b"x-headgate-route"])
        assert name == exchange.events[0]["model"]


async def test_weights_decide_how_often_a_target_is_chosen(start: Start) -> None:
    other = model(cohort("other-1"), name="other", public_name="other")
    entries = (MODEL, other, TENANT, route(Target(model="llama", weight=3), Target(model="other")))
    running = await start(saying("Hi"), saying("Hi"), entries=entries)
    _give_pod_to_other(running)
    chosen = [(await ask(running, model="chat")).headers[b"x-headgate-model"] for _ in range(400)]

    assert 230 < chosen.count(b"llama") < 370


async def test_a_target_without_a_ready_pod_leaves_its_share_to_the_others(start: Start) -> None:
    other = model(cohort("other-1"), name="other", public_name="other")
    entries = (MODEL, other, TENANT, route(Target(model="llama", weight=0), Target(model="other")))
    running = await start(saying("Hi"), saying("Hi"), entries=entries)
    assert 503 == (await ask(running, model="chat")).status  # weight 0 is never chosen
    _give_pod_to_other(running)

    assert 200 == (await ask(running, model="chat")).status


def _give_pod_to_other(running: Running) -> None:
    labels = {"headgate.dev/cohort": "other-1"}
    running.gateway.pods.put(pod("pod-2", "127.0.0.2", uid="uid-other", labels=labels))


async def test_a_suspended_model_says_so(start: Start) -> None:
    running = await start(saying("Hi"), entries=(model(cohort(), suspended=True), TENANT))
    exchange = await ask(running)

    assert (503, "model_suspended") == (exchange.status, exchange.code)
    assert b"60" == exchange.headers[b"retry-after"]


async def test_a_pod_with_forged_labels_is_not_asked(start: Start) -> None:
    running = await start(saying("Hi"))
    running.gateway.pods.gone("chat", "pod-1")
    running.gateway.pods.put(pod("other-uid", uid="uid-of-another"))
    elsewhere = pod("elsewhere")
    elsewhere["metadata"]["namespace"] = "other"
    running.gateway.pods.put(elsewhere)
    running.gateway.pods.put(pod("other-cohort", labels={"headgate.dev/cohort": "old"}))
    running.gateway.pods.put(pod("relabelled", ownerReferences=[]))
    foreign = {"kind": "ReplicaSet", "name": "another-5d8f", "controller": True}
    running.gateway.pods.put(pod("of-another", ownerReferences=[foreign]))

    assert 503 == (await ask(running)).status


async def test_names_of_another_namespace_are_unknown(start: Start) -> None:
    identity = Identity(kind="ModelDeployment", namespace="other", name="secret")
    foreign = make_entry(identity, uid="u", generation=1, body=ModelBody(public_name="secret"))
    running = await start(entries=(MODEL, TENANT, foreign))

    assert 404 == (await ask(running, model="secret")).status


# input rules


def safety(**more: Any) -> Any:
    rules = (InputRule(name="no-cards", pattern=r"\b\d{16}\b", explanation="No card numbers."),)
    return entry(
        "SafetyPolicy", "cards", SafetyBody(**{"rules": rules} | more), requires=("input-rules",)
    )


CARD = "4111111111111111"
CALL = {"id": "1", "type": "function", "function": {"name": "pay", "arguments": CARD}}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": f"my card is {CARD}"},
        {"role": "system", "content": CARD},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": CARD}],
        },
        {"role": "tool", "tool_call_id": "1", "content": CARD},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": CARD}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "refusal": CARD},
        {"role": "user", "name": CARD, "content": "hi"},
        {"role": "user", "content": "\uff14" + 15 * "\uff11"},
        {"role": "user", "content": "x " * 100_000 + CARD},
    ],
    ids=["user", "system", "part", "tool", "tool part", "call", "refusal", "name", "wide", "long"],
)
async def test_a_rule_sees_all_that_a_client_can_write(
    start: Start, message: dict[str, Any]
) -> None:
    running = await start(saying("Hi"), entries=(MODEL, TENANT, safety()))
    exchange = await say(running, message)

    assert (400, "content_filter") == (exchange.status, exchange.code)
    assert "No card numbers." == exchange.events[0]["error"]["message"]
    assert 0 == running.upstreams[0].requests
    assert 200 == (await say(running, {"role": "user", "content": "hello"})).status


async def test_all_that_is_logged_of_a_request_bears_its_id_and_none_of_its_text(
    start: Start,
) -> None:
    running = await start(saying("Hi"), entries=(MODEL, TENANT, safety()))
    written: list[bytes] = []
    running.gateway.inference.teller.write = written.append
    with capture_logs(processors=[with_request_id]) as lines:
        await asyncio.create_task(say(running, {"role": "user", "content": CARD}))
    lines += map(json.loads, written)

    assert ["input rule matched", "request"] == [line["event"] for line in lines]
    assert {"test-1"} == {line["id"] for line in lines}
    assert CARD not in repr(lines)
    assert KEY not in repr(lines)


async def test_a_shadow_policy_counts_and_lets_pass(start: Start) -> None:
    running = await start(saying("Hi"), entries=(MODEL, TENANT, safety(shadow=True)))
    exchange = await say(running, {"role": "user", "content": CARD})

    assert 200 == exchange.status
    assert 1 == running.gateway.metrics.shadow_matches.of("chat", "cards").value


@pytest.mark.parametrize(
    ("binds", "status"),
    [
        ({"tenants": ("other",)}, 200),
        ({"tenants": ("ac*",)}, 400),
        ({"models": ("qwen",)}, 200),
        ({"models": ("llama*",)}, 400),
    ],
    ids=str,
)
async def test_a_policy_binds_whom_it_names(
    start: Start, binds: dict[str, Any], status: int
) -> None:
    running = await start(saying("Hi"), entries=(MODEL, TENANT, safety(**binds)))

    assert status == (await say(running, {"role": "user", "content": CARD})).status


# prompt


async def test_the_model_s_own_template_writes_the_prompt(start: Start) -> None:
    prompts: list[str] = []
    speak = saying("Hi")

    async def script(connection: Connection) -> None:
        prompts.append(connection.fields["text_input"])
        await speak(connection)

    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}>"
    running = await start(script, entries=(model(cohort(), chat_template=template), TENANT))
    await say(running, {"role": "developer", "content": "Be brief."}, *MESSAGES)

    assert ["[system] Be brief.\n[user] Hello\n>"] == prompts


async def test_a_template_s_refusal_is_the_client_s_to_mend(start: Start) -> None:
    template = "{{ raise_exception('Roles must alternate.') }}"
    running = await start(saying("Hi"), entries=(model(cohort(), chat_template=template), TENANT))
    exchange = await ask(running)

    assert (400, "invalid_prompt") == (exchange.status, exchange.code)
    assert "Roles must alternate." == exchange.events[0]["error"]["message"]


async def test_a_broken_template_is_ours(start: Start) -> None:
    template = "{{ 1 / 0 }}"
    running = await start(saying("Hi"), entries=(model(cohort(), chat_template=template), TENANT))

    assert 500 == (await ask(running)).status


async def test_what_is_known_of_templates_is_bounded(start: Start) -> None:
    templates = [f"{number}" for number in range(COMPILED + 10)]
    models = [
        model(cohort(), name=f"m-{text}", public_name=f"m-{text}", chat_template=text)
        for text in templates
    ]
    running = await start(saying("Hi"), entries=(*models, TENANT))
    for text in templates:
        running.gateway.pods.put(pod("pod-1", uid=f"uid-m-{text}"))
        assert 200 == (await ask(running, model=f"m-{text}")).status
    stages = running.gateway.inference.pipeline._stages
    stage = next(stage for stage in stages if stage.name == "context")

    assert isinstance(stage, WritePrompt)
    assert 10 == len(stage.preparation._compiled)


async def test_more_tokens_than_the_context_has_are_refused(start: Start) -> None:
    running = await start(saying("Hi"), entries=(model(cohort(), max_context_tokens=100), TENANT))

    assert 200 == (await ask(running, max_tokens=50)).status
    for name in ("max_tokens", "max_completion_tokens"):
        exchange = await ask(running, **{name: 101})
        assert (400, "context_length_exceeded") == (exchange.status, exchange.code)
        assert name == exchange.events[0]["error"]["param"]


async def test_an_unforeseen_error_is_counted_and_told(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(saying("Hi"))
    monkeypatch.setattr(running.gateway.pods, "_pools", {Pool("chat", "uid-llama"): 0})
    exchange = await ask(running)

    assert (500, "internal_error") == (exchange.status, exchange.code)
    assert 1 == running.gateway.metrics.bugs.of().value
    counted = {labels for labels, count in running.gateway.metrics.requests.items() if count.value}
    assert {("500", "internal_error")} == counted


async def test_keys_are_known_by_digest_alone(start: Start) -> None:
    running = await start()
    credentials = list(running.gateway.snapshots.tables.keys.values())

    assert [sha256(KEY.encode()).hexdigest()] == [c.key.sha256 for c in credentials]
    assert KEY not in repr(credentials)
