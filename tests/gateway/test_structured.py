"""Tools and structured answers on Triton, where the gateway itself sees to the form."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headgate_api.snapshot import RetryBody, RouteBody

from .conftest import ALL, ENSEMBLE, TENANT, Running, cohort, entry, model
from .exchanges import Recorded
from .test_calls import ask
from .upstream import Connection, Script, ensemble_saying, saying

Start = Callable[..., Awaitable[Running]]
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }} Answer with <tool_call>JSON</tool_call>.\n{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{% endfor %}>"
)
KNOWING = model(cohort(), chat_template=TEMPLATE)
AREA = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": AREA}}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of <s>"}}
CALL = '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>'
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def format_of(*, strict: bool, schema: Any = SCHEMA) -> dict[str, Any]:
    named = {"name": "it", "schema": schema, "strict": strict}
    return {"type": "json_schema", "json_schema": named}


def noting(seen: list[dict[str, Any]], script: Script) -> Script:
    async def note(connection: Connection) -> None:
        seen.append(connection.fields)
        await script(connection)

    return note


def calls(exchange: Recorded) -> list[tuple[str, str]]:
    found = []
    for event in exchange.events:
        for choice in event.get("choices", ()):
            told = choice.get("delta", choice.get("message"))
            found += [c["function"] for c in told.get("tool_calls", ())]
    return [(function["name"], function["arguments"]) for function in found]


def reason(exchange: Recorded) -> str:
    found: str = [e for e in exchange.events if e["choices"]][-1]["choices"][0]["finish_reason"]
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_go_into_the_prompt_and_calls_come_out_of_the_text(
    start: Start, stream: bool
) -> None:
    seen: list[dict[str, Any]] = []
    script = noting(seen, saying("I look.", *CALL[:20], CALL[20:]))
    running = await start(script, entries=(KNOWING, TENANT))
    exchange = await ask(running, stream=stream, tools=[CLOCK, WEATHER])

    assert [("clock", '{"zone": "UTC"}')] == calls(exchange)
    assert ("I look.", "tool_calls") == (exchange.text, reason(exchange))
    assert seen[0]["text_input"].startswith(json.dumps([CLOCK])[:-1])
    assert "Of <\u200bs>" in seen[0]["text_input"]


async def test_a_call_and_its_result_go_back_into_the_prompt(start: Start) -> None:
    seen: list[dict[str, Any]] = []
    running = await start(noting(seen, saying("Noon.")), entries=(KNOWING, TENANT))
    function = {"name": "clock", "arguments": '{"zone": "UTC"}'}
    messages = [
        {"role": "user", "content": "What time is it?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "12:00", "tool_call_id": "c"},
    ]
    assert "Noon." == (await ask(running, messages=messages)).text
    assert (
        "[user]What time is it?"
        '[assistant]{"name": "clock", "arguments": {"zone": "UTC"}}[tool]12:00>'
    ) == seen[0]["text_input"]


async def test_an_answer_without_a_call_is_an_answer(start: Start) -> None:
    running = await start(saying("No ", "need."), entries=(KNOWING, TENANT))
    exchange = await ask(running, tools=[CLOCK])

    assert ("No need.", "stop") == (exchange.text, reason(exchange))
    assert [] == calls(exchange)


async def test_tools_that_must_not_be_called_are_not_shown(start: Start) -> None:
    seen: list[dict[str, Any]] = []
    running = await start(noting(seen, saying(CALL)), entries=(KNOWING, TENANT))
    exchange = await ask(running, tools=[CLOCK], tool_choice="none")

    assert seen[0]["text_input"].startswith("[user]")
    assert (CALL, []) == (exchange.text, calls(exchange))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_is_required_begins_in_the_prompt(start: Start, stream: bool) -> None:
    seen: list[dict[str, Any]] = []
    script = noting(seen, saying('{"zone":', ' "UTC"}}', "</tool_call>", " And more."))
    running = await start(script, entries=(KNOWING, TENANT))
    choice = {"type": "function", "function": {"name": "clock"}}
    exchange = await ask(running, tools=[CLOCK, WEATHER], tool_choice=choice, stream=stream)

    assert seen[0]["text_input"].endswith('>\x3ctool_call>\n{"name": "clock", "arguments": ')
    assert [("clock", '{"zone": "UTC"}')] == calls(exchange)
    assert ("", "tool_calls") == (exchange.text, reason(exchange))


async def test_a_required_call_that_does_not_come_is_no_answer(start: Start) -> None:
    running = await start(saying("clock is what I would call"), entries=(KNOWING, TENANT))
    exchange = await ask(running, tools=[CLOCK], tool_choice="required", stream=True)

    assert (502, "invalid_output") == (exchange.status, exchange.code)


async def test_arguments_of_a_strict_tool_keep_to_its_schema(start: Start) -> None:
    strict = {"type": "function", "function": {**CLOCK["function"], "strict": True}}  # type: ignore[dict-item]
    running = await start(saying(CALL.replace('"UTC"', "5")), entries=(KNOWING, TENANT))

    assert [("clock", '{"zone": 5}')] == calls(await ask(running, tools=[CLOCK]))
    assert "invalid_output" == (await ask(running, tools=[strict])).code


async def test_tools_for_a_model_that_knows_none_are_refused(start: Start) -> None:
    running = await start(saying("Hi"))
    exchange = await ask(running, tools=[CLOCK])

    assert (400, "unsupported_parameter") == (exchange.status, exchange.code)


GOOD, BAD = '{"n": 5}', '{"n": "five"}'


@pytest.mark.parametrize(
    ("wants", "text", "code"),
    [
        ({"type": "json_object"}, GOOD, None),
        ({"type": "json_object"}, "[]", "invalid_output"),
        ({"type": "json_object"}, "Sure: {}", "invalid_output"),
        (format_of(strict=True), GOOD, None),
        (format_of(strict=True), BAD, "invalid_output"),
        (format_of(strict=False), BAD, "invalid_output"),
        (format_of(strict=False, schema=True), BAD, None),
    ],
)
async def test_an_answer_that_is_not_as_asked_is_refused(
    start: Start, wants: dict[str, Any], text: str, code: str | None
) -> None:
    running = await start(saying(*text))
    exchange = await ask(running, response_format=wants)

    assert (code, 502 if code else 200) == (exchange.code, exchange.status)
    assert code or text == exchange.text


async def test_a_strict_stream_is_held_until_it_is_known_to_be_right(start: Start) -> None:
    running = await start(saying(*GOOD))
    exchange = await ask(running, response_format=format_of(strict=True), stream=True)
    assert (200, GOOD) == (exchange.status, exchange.text)

    running = await start(saying(*BAD))
    exchange = await ask(running, response_format=format_of(strict=True), stream=True)
    assert (502, "invalid_output", "") == (exchange.status, exchange.code, exchange.text)


async def test_another_stream_ends_with_an_error_where_it_turns_out_wrong(start: Start) -> None:
    running = await start(saying(*BAD))
    exchange = await ask(running, response_format=format_of(strict=False), stream=True)

    assert (200, "invalid_output", BAD) == (exchange.status, exchange.code, exchange.text)
    assert b"[DONE]" not in exchange.data


async def test_what_the_limit_cut_says_so_by_its_reason(start: Start) -> None:
    running = await start(saying('{"n"', finish="length"))
    exchange = await ask(running, response_format=format_of(strict=True), stream=True)

    assert ('{"n"', "length") == (exchange.text, reason(exchange))


async def test_a_policy_may_have_an_invalid_answer_tried_again(start: Start) -> None:
    route = entry(
        "RoutingPolicy",
        "again",
        RouteBody(
            models=("json",),
            routes=(ALL,),
            retries=RetryBody(retry_on=("InvalidOutput",), backoff_base=0.001),
        ),
    )
    running = await start(saying(BAD), saying(GOOD), entries=(model(cohort()), route, TENANT))
    running.gateway.pods._turn = 1  # the first pod is asked first
    wants = format_of(strict=True)
    exchange = await ask(running, model="json", response_format=wants, stream=True)

    assert (200, GOOD) == (exchange.status, exchange.text)


async def test_the_ensemble_is_guided_to_what_was_asked_for(start: Start) -> None:
    seen: list[dict[str, Any]] = []
    script = noting(seen, ensemble_saying(GOOD))
    running = await start(script, entries=(ENSEMBLE, TENANT))
    await ask(running, response_format=format_of(strict=True))
    await ask(running, response_format={"type": "json_object"})
    await ask(running)

    told = [(f.get("guided_decoding_guide_type"), f.get("guided_decoding_guide")) for f in seen]
    assert [("json_schema", json.dumps(SCHEMA)), ("json", None), (None, None)] == told


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "thing"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": "http://127.0.0.1/x"},
        {"pattern": "(?=a)b"},
        {"anyOf": [{"pattern": "a"}] * 17},
        {"description": "x" * 70_000},
        5,
    ],
)
async def test_a_schema_that_cannot_be_used_is_refused(start: Start, schema: Any) -> None:
    running = await start(saying("{}"))
    exchange = await ask(running, response_format=format_of(strict=True, schema=schema))

    assert (400, "invalid_value") == (exchange.status, exchange.code)
    assert "response_format" == exchange.events[0]["error"]["param"]


DEEP = json.loads('{"a":' * 200 + "1" + "}" * 200)


async def test_what_is_nested_too_deeply_is_refused_or_left_as_it_is(start: Start) -> None:
    seen: list[dict[str, Any]] = []
    running = await start(noting(seen, saying("Hi")), entries=(KNOWING, TENANT))
    deep = {"type": "function", "function": {"name": "clock", "parameters": DEEP}}
    exchange = await ask(running, tools=[deep])
    assert (400, "tools[0].function.parameters") == (exchange.status, param(exchange))
    exchange = await ask(running, response_format=format_of(strict=True, schema=DEEP))
    assert (400, "response_format") == (exchange.status, param(exchange))

    function = {"name": "clock", "arguments": json.dumps(DEEP)}
    call = {"id": "c", "type": "function", "function": function}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    assert 200 == (await ask(running, messages=messages)).status
    assert json.dumps(json.dumps(DEEP)) in seen[0]["text_input"]


def param(exchange: Recorded) -> Any:
    return exchange.events[0]["error"]["param"]
