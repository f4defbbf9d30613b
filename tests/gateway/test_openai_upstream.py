"""A model behind `trtllm-serve`, which speaks OpenAI's dialect itself."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from headgate_api.snapshot import Cohort
from headgate_gateway.calls.adapter import Sampling, Task
from headgate_gateway.calls.openai import OPENAI
from headgate_policy.neutral import neutral

from .conftest import COHORT_NAME, KEY, NAME, TENANT, Running, model
from .exchanges import Recorded
from .trtllm_serve import TrtllmServe
from .upstream import Connection, Script

Start = Callable[..., Awaitable[Running]]
SERVED = model(
    Cohort(
        name=COHORT_NAME,
        variant="bf16",
        revision="0a1b2c3d",
        runtime="trtllm-serve",
        served_model="Llama-3.1-8B",
    )
)
HELLO = [{"role": "user", "content": "Hello"}]
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
WEATHER = {"type": "function", "function": {"name": "weather"}}


async def post(running: Running, path: str, **body: Any) -> Recorded:
    data = json.dumps({"model": NAME} | body).encode()
    exchange = Recorded("POST", f"/v1/{path}", KEY, data)
    await running.gateway.edge.handle(exchange)
    return exchange


async def chat(running: Running, **more: Any) -> Recorded:
    return await post(running, "chat/completions", **{"messages": HELLO} | more)


def call(index: int, arguments: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    part = {"index": index, "function": {"name": name, "arguments": arguments}} | more
    return {"tool_calls": [part]}


async def test_text_thoughts_and_counts_come_through(start: Start) -> None:
    script = TrtllmServe({"reasoning_content": "Hm."}, {"content": "Good"}, {"content": " day"})
    running = await start(script, entries=(SERVED, TENANT))
    exchange = await chat(running)

    [answer] = exchange.events
    message = answer["choices"][0]["message"]
    assert ("Good day", "Hm.") == (message["content"], message["reasoning_content"])
    assert {
        "prompt_tokens": 11,
        "completion_tokens": 3,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 8},
    } == answer["usage"]


async def test_a_stream_comes_through_piece_by_piece(start: Start) -> None:
    script = TrtllmServe({"reasoning": "Hm."}, {"content": "Good"}, finish="length")
    running = await start(script, entries=(SERVED, TENANT))
    exchange = await chat(running, stream=True, stream_options={"include_usage": True})

    deltas = [event["choices"][0]["delta"] for event in exchange.events if event["choices"]]
    assert {"reasoning_content": "Hm."} in deltas
    assert {"content": "Good"} in deltas
    assert "length" == exchange.events[-2]["choices"][0]["finish_reason"]
    assert {"cached_tokens": 8} == exchange.events[-1]["usage"]["prompt_tokens_details"]


async def test_what_is_not_ours_to_say_goes_on_as_the_client_wrote_it(start: Start) -> None:
    script = TrtllmServe({"content": "Hi"})
    running = await start(script, entries=(SERVED, TENANT))
    wants: dict[str, Any] = {
        "messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": []}, *HELLO],
        "temperature": 0.30000000000000004,
        "seed": -5,
        "stop": ["x"],
        "tools": [CLOCK],
        "response_format": {"type": "text"},
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"5": -100},
        "reasoning_effort": "low",
    }
    labels = {"metadata": {"a": "b"}, "store": False, "service_tier": "auto", "n": None}
    extra = {"max_completion_tokens": 7, "parallel_tool_calls": True, "user": "u"}
    exchange = await chat(running, **wants, **labels, **extra)

    assert 200 == exchange.status
    assert {
        **wants,
        "model": "Llama-3.1-8B",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "tool_choice": "auto",
    } == script.seen[0]


async def test_marks_of_the_chat_format_are_text_when_a_client_wrote_them(start: Start) -> None:
    script = TrtllmServe({"content": "Hi"})
    running = await start(script, entries=(SERVED, TENANT))
    text = "a <b> [1] <|im_start|>system"
    await chat(running, messages=[{"role": "user", "content": text}])

    assert "a <b> [1] <\u200b|im_start|>system" == script.seen[0]["messages"][0]["content"]


@given(
    st.lists(
        st.sampled_from(["<|im_start|>", "[INST]", "[/INST]", "[1]", "<s>", "[", "<", "é", "a"])
    ),
    st.booleans(),
    st.sampled_from(["/", "\\/"]),
)
@example(["[/INST]"], False, "\\/")
def test_no_mark_goes_on_however_it_is_written_down(
    pieces: list[str], ascii_only: bool, slash: str
) -> None:
    messages = [{"role": "user", "content": "".join(pieces)}]
    written = json.dumps({"messages": messages}, ensure_ascii=ascii_only)
    body = written.replace("/", slash).encode()
    asked = Task(endpoint="chat/completions", sampling=Sampling(max_tokens=1), body=body)
    sent = OPENAI.request(
        asked, call_id="c", host="h", served_model="m", left_ms=1, headers=b""
    ).partition(b"\r\n\r\n")[2]

    assert neutral(messages) == json.loads(sent)["messages"]


async def test_calls_that_come_in_pieces_are_given_whole(start: Start) -> None:
    script = TrtllmServe(
        call(0, "", "clock", id="call-a"),
        call(0, '{"zone":'),
        call(0, '"UTC"}'),
        call(1, "", "weather", id="call-b"),
        finish="tool_calls",
    )
    running = await start(script, entries=(SERVED, TENANT))
    exchange = await chat(running, tools=[CLOCK, WEATHER], stream=True)

    calls = [
        event["choices"][0]["delta"]["tool_calls"][0]
        for event in exchange.events
        if "tool_calls" in event["choices"][0]["delta"]
    ]
    told = [(c["index"], c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls]
    assert [(0, "call-a", "clock", '{"zone":"UTC"}'), (1, "call-b", "weather", "{}")] == told
    assert "tool_calls" == exchange.events[-1]["choices"][0]["finish_reason"]


async def test_an_answer_that_may_call_once_ends_with_its_first_call(start: Start) -> None:
    script = TrtllmServe(call(0, "{}", "clock"), call(1, "{}", "weather"), finish="tool_calls")
    running = await start(script, entries=(SERVED, TENANT))
    exchange = await chat(running, tools=[CLOCK, WEATHER], parallel_tool_calls=False)

    message = exchange.events[0]["choices"][0]["message"]
    assert ["clock"] == [call["function"]["name"] for call in message["tool_calls"]]
    assert message["content"] is None


@pytest.mark.parametrize(
    ("deltas", "more"),
    [
        ((call(0, "{}", "shell"),), {}),
        ((call(0, "{not json", "clock"),), {}),
        ((call(0, "[]", "clock"),), {}),
        (({"content": "No."},), {"tool_choice": "required"}),
        (
            (call(0, "{}", "clock"),),
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
    ],
    ids=["not offered", "broken", "no object", "none", "another"],
)
async def test_a_call_that_was_not_asked_for_is_no_answer(
    start: Start, deltas: tuple[dict[str, Any], ...], more: dict[str, Any]
) -> None:
    running = await start(TrtllmServe(*deltas), entries=(SERVED, TENANT))
    exchange = await chat(running, tools=[CLOCK, WEATHER], **more)

    assert (502, "invalid_output") == (exchange.status, exchange.code)


async def test_a_call_that_the_limit_cut_is_left_out(start: Start) -> None:
    script = TrtllmServe(call(0, '{"zo', "clock"), finish="length")
    running = await start(script, entries=(SERVED, TENANT))
    choice = (await chat(running, tools=[CLOCK])).events[0]["choices"][0]

    assert "length" == choice["finish_reason"]
    assert "tool_calls" not in choice["message"]


async def test_logprobs_come_through(start: Start) -> None:
    token = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
    script = TrtllmServe({"content": "Hi", "logprobs": {"content": [token]}})
    running = await start(script, entries=(SERVED, TENANT))

    plain = await chat(running, logprobs=True)
    stream = await chat(running, logprobs=True, stream=True)
    assert {"content": [token], "refusal": None} == plain.events[0]["choices"][0]["logprobs"]
    found = [event["choices"][0]["logprobs"] for event in stream.events]
    assert {"content": [token], "refusal": None} in found


async def test_completions_go_on_with_a_text(start: Start) -> None:
    script = TrtllmServe({"text": "upon"}, {"text": " a time"})
    running = await start(script, entries=(SERVED, TENANT))
    exchange = await post(running, "completions", prompt="Once <s>", max_tokens=3)

    assert "upon a time" == exchange.events[0]["choices"][0]["text"]
    assert script.heads[0].startswith("POST /v1/completions HTTP/1.1\r\n")
    assert ("Once <s>", 3) == (script.seen[0]["prompt"], script.seen[0]["max_tokens"])


async def test_embeddings_are_asked_for_packed_and_given_as_wanted(start: Start) -> None:
    script = TrtllmServe(vectors=[[1.0, 0.5], [0.25, -2.0]])
    running = await start(script, entries=(SERVED, TENANT))
    exchange = await post(running, "embeddings", input=["a", "b"], encoding_format="float")

    [answer] = exchange.events
    assert [[1.0, 0.5], [0.25, -2.0]] == [row["embedding"] for row in answer["data"]]
    assert {"prompt_tokens": 5, "total_tokens": 5} == answer["usage"]


def delta(**more: Any) -> bytes:
    return b"data: %s\n\n" % json.dumps({"choices": [{"delta": more}]}).encode()


def refusing(status: int, message: str) -> Script:
    async def script(connection: Connection) -> None:
        await TrtllmServe().refuse(connection, status, message)

    return script


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "The guide is not one", (400, "upstream_refused")),
        (
            400,
            "The sum of prompt length (9), query length (0) should not exceed max_num_tokens (8)",
            (400, "context_length_exceeded"),
        ),
        (422, "no such grammar", (400, "upstream_refused")),
        (404, "no such model", (502, "upstream_error")),
        (429, "slow down", (503, "upstream_overloaded")),
        (500, "out of memory", (502, "upstream_error")),
    ],
)
async def test_its_errors_are_told_as_ours(
    start: Start, status: int, message: str, expected: tuple[int, str]
) -> None:
    running = await start(refusing(status, message), entries=(SERVED, TENANT))
    exchange = await chat(running)

    assert expected == (exchange.status, exchange.code)
    assert message not in exchange.data.decode()


@pytest.mark.parametrize(
    ("chunks", "code"),
    [
        ([b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'], "upstream_lost"),
        ([b'data: {"choices":[{"finish_reason":"cancelled"}]}\n\n'], "upstream_lost"),
        ([b'data: {"error":{"message":"no"}}\n\n'], "upstream_error"),
        ([b'data: {"object":"error","message":"no","code":500}\n\n'], "upstream_error"),
        ([b"data: {\n\n"], "upstream_invalid"),
        ([b'data: {"choices":[]}'], "upstream_invalid"),
        ([b"data: [DONE]\n\n"], "upstream_lost"),
        ([delta(content=2000 * "x")] * 6, "upstream_overrun"),
        ([delta(reasoning_content=2000 * "x")] * 6, "upstream_overrun"),
        ([delta(tool_calls=[{"function": {"arguments": 2000 * "x"}}])] * 7, "upstream_overrun"),
        ([delta() * 1000] * 11, "upstream_overrun"),
    ],
)
async def test_a_stream_that_is_no_whole_answer_fails(
    start: Start, chunks: list[bytes], code: str
) -> None:
    async def script(connection: Connection) -> None:
        await connection.begin()
        for chunk in chunks:
            await connection.chunk(chunk)
        await connection.end()

    running = await start(script, entries=(SERVED, TENANT))
    assert code == (await chat(running)).code


async def test_the_server_writes_the_prompt_itself(start: Start) -> None:
    served = Cohort(
        name=COHORT_NAME,
        variant="bf16",
        revision="0a1b2c3d",
        runtime="trtllm-serve",
        served_model="Llama-3.1-8B",
    )
    refusing_template = model(served, chat_template="{{ raise_exception('No.') }}")
    running = await start(TrtllmServe({"content": "Hi"}), entries=(refusing_template, TENANT))

    assert "Hi" == (await chat(running)).text
