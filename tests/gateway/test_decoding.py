"""Bytes of a model server may be cut anywhere: the events are the same."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate_gateway.calls import sse
from headgate_gateway.calls.adapter import Form, Sampling, Task
from headgate_gateway.calls.adapters import ADAPTERS
from headgate_gateway.calls.events import End, Failed, Reasoning, Text, ToolCall
from headgate_gateway.calls.failures import INVALID
from headgate_gateway.values import replaced

TASK = Task(endpoint="chat/completions", prompt="prompt", sampling=Sampling(max_tokens=100))
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted(draw(st.sets(st.integers(0, len(data)), max_size=12)))
    edges = [0, *places, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def stream(
    events: list[dict[str, Any]], line_end: str, *, ascii_only: bool, compact: bool = True
) -> bytes:
    separators = (",", ":") if compact else (", ", ": ")
    texts = [json.dumps(e, ensure_ascii=ascii_only, separators=separators) for e in events]
    return "".join(f"data: {text}{2 * line_end}" for text in texts).encode()


def read(runtime: str, pieces: list[bytes]) -> tuple[str, End | Failed]:
    """Read a whole answer; text that arrives in one piece or another is the same text."""
    reader = ADAPTERS[runtime].reader(TASK)
    text = ""
    for events in (*map(reader.feed, pieces), reader.end()):
        for event in events:
            match event:
                case Text(new):
                    text += new
                case End() | Failed():
                    return text, event
                case _:
                    raise AssertionError(event)
    raise AssertionError("no end")


@given(st.data(), TEXTS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_the_ensemble_s_text_does_not_depend_on_where_bytes_are_cut(
    data: st.DataObject, texts: list[str], line_end: str, ascii_only: bool
) -> None:
    events = [
        {"text_output": text, "num_input_tokens": 3, "num_output_tokens": number}
        for number, text in enumerate(texts, 1)
    ]
    raw = stream(events, line_end, ascii_only=ascii_only)
    text, end = read("triton-python", data.draw(cuts(raw)))

    assert "".join(texts) == text
    assert read("triton-python", [raw])[1] == end
    assert bool(texts) == isinstance(end, End)


@given(st.data(), TEXTS, st.booleans(), st.booleans())
def test_the_llmapi_s_text_does_not_depend_on_where_bytes_are_cut(
    data: st.DataObject, texts: list[str], ascii_only: bool, compact: bool
) -> None:
    events = [
        {
            "text_output": "".join(texts[:number]),
            "finish_reason": "length" if number == len(texts) else "None",
        }
        for number in range(1, len(texts) + 1)
    ]
    raw = stream(events, "\n", ascii_only=ascii_only, compact=compact)
    text, end = read("triton-llmapi", data.draw(cuts(raw)))

    assert "".join(texts) == text
    if texts:
        assert isinstance(end, End)
        assert "length" == end.finish_reason
    else:
        assert isinstance(end, Failed)


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_no_bytes_make_the_decoder_fail_or_invent_events(pieces: list[bytes]) -> None:
    decoder = sse.Decoder()
    found = [data for piece in pieces for data in decoder.feed(piece)]

    assert found == sse.Decoder().feed(b"".join(pieces))


def test_comments_other_fields_and_events_of_several_lines_are_understood() -> None:
    fed = b": hello\n\nid: 1\ndata:a\ndata: b\nevent: x\n\ndata\n\n"

    assert [b"a\nb"] == sse.Decoder().feed(fed)


CHOICES = st.one_of(
    st.fixed_dictionaries({"content": st.text(st.characters(exclude_categories=["Cs"]))}),
    st.fixed_dictionaries({"reasoning_content": st.text("ab", min_size=1)}),
    st.fixed_dictionaries(
        {
            "index": st.integers(0, 2),
            "function": st.fixed_dictionaries(
                {"arguments": st.sampled_from(["", "{}", '{"a":', "1}"])},
                optional={"name": st.sampled_from(["clock", "weather"])},
            ),
        }
    ).map(lambda part: {"tool_calls": [part]}),
)
OFFERS = Task(
    endpoint="chat/completions",
    sampling=Sampling(max_tokens=100),
    form=Form(offered=("clock", "weather"), arguments={}, hold=False),
)


def told(pieces: list[bytes]) -> list[tuple[str, ...]]:
    """Read a whole answer of an OpenAI server; ids of calls are made up, and left out."""
    reader = ADAPTERS["trtllm-serve"].reader(OFFERS)
    found: list[tuple[str, ...]] = []
    for events in (*map(reader.feed, pieces), reader.end()):
        for event in events:
            match event:
                case Text(text) | Reasoning(text):
                    kind = type(event).__name__
                    if found and found[-1][0] == kind:
                        text = found.pop()[1] + text
                    found.append((kind, text))
                case ToolCall(index, _, name, arguments):
                    found.append((str(index), name, arguments))
                case End(reason, _):
                    return [*found, (reason,)]
                case Failed(refusal):
                    return [*found, (refusal.code,)]
                case _:
                    raise AssertionError(event)
    raise AssertionError("no end")


@given(st.data(), st.lists(CHOICES, max_size=8), st.sampled_from(["stop", "length", None]))
def test_an_openai_server_s_answer_does_not_depend_on_where_bytes_are_cut(
    data: st.DataObject, deltas: list[dict[str, Any]], reason: str | None
) -> None:
    chunks = [{"choices": [{"delta": delta}]} for delta in deltas]
    raw = stream([*chunks, {"choices": [{"finish_reason": reason}]}], "\n", ascii_only=False)
    whole = told([raw])

    assert whole == told(data.draw(cuts(raw)))
    texts = "".join(delta.get("content", "") for delta in deltas)
    if "invalid_output" not in whole[-1]:
        assert texts == "".join(part[1] for part in whole if part[0] == "Text")


DEEP = b"[" * 200_000


def vectors(packed: str, prompt_tokens: int = 1) -> bytes:
    """What an OpenAI server answers to one text."""
    data = [{"index": 0, "embedding": packed}]
    return json.dumps({"data": data, "usage": {"prompt_tokens": prompt_tokens}}).encode()


def tensors(num_input_tokens: bytes) -> bytes:
    """What Triton answers to one text."""
    found = {"embedding": b"\0\0\x80?", "num_input_tokens": num_input_tokens}
    types = {"embedding": "FP32", "num_input_tokens": "INT32"}
    outputs = [
        {
            "name": name,
            "datatype": types[name],
            "shape": [1],
            "parameters": {"binary_data_size": len(tensor)},
        }
        for name, tensor in found.items()
    ]
    return json.dumps({"outputs": outputs}).encode() + b"".join(found.values())


@pytest.mark.parametrize(
    ("runtime", "endpoint", "raw"),
    [
        ("triton-llmapi", "chat/completions", b'data: {"a":' + DEEP + b"\n\n"),
        ("triton-python", "chat/completions", b'data: {"a":' + DEEP + b"\n\n"),
        ("trtllm-serve", "chat/completions", b'data: {"a":' + DEEP + b"\n\n"),
        ("trtllm-serve", "chat/completions", b'data: {"error":' + DEEP + b"\n\n"),
        ("triton-python", "embeddings", b'{"a":' + DEEP),
        ("triton-python", "embeddings", b'{"a":' + DEEP + b"]" * 200_000 + b"}"),
        ("trtllm-serve", "embeddings", b'{"a":' + DEEP),
        (
            "triton-llmapi",
            "chat/completions",
            b'data: {"text_output":"a","num_input_tokens":-1}\n\n',
        ),
        (
            "triton-python",
            "chat/completions",
            b'data: {"num_output_tokens":9223372036854775808}\n\n',
        ),
        ("trtllm-serve", "chat/completions", b'data: {"usage":{"prompt_tokens":-1}}\n\n'),
        ("trtllm-serve", "chat/completions", b'data: {"usage":{"completion_tokens":1e30}}\n\n'),
        ("trtllm-serve", "embeddings", vectors("AACAPw==", prompt_tokens=-1)),
        ("trtllm-serve", "embeddings", vectors("AACA")),
        ("trtllm-serve", "embeddings", vectors("")),
        ("trtllm-serve", "embeddings", vectors("\N{DIGIT ONE}\N{SUPERSCRIPT TWO}")),
        ("triton-python", "embeddings", tensors(num_input_tokens=b"123")),
        ("triton-python", "embeddings", tensors(num_input_tokens=b"\xff\xff\xff\xff")),
    ],
)
def test_json_without_bottom_and_counts_that_nobody_can_count_are_no_answer(
    runtime: str, endpoint: Any, raw: bytes
) -> None:
    reader = ADAPTERS[runtime].reader(replaced(TASK, endpoint=endpoint, inputs=("text",)))

    assert INVALID == [*reader.feed(raw), *reader.end()][0]
    assert reader.error


def openai_delta(**delta: Any) -> bytes:
    return stream([{"choices": [{"delta": delta}]}], "\n", ascii_only=True)


def openai_call(index: int, arguments: str) -> bytes:
    call = {"index": index, "function": {"name": "clock", "arguments": arguments}}
    return openai_delta(tool_calls=[call])


PIECE = "x" * 1_000_000
HELD = Form(offered=("clock",), arguments={}, check=lambda value: True, hold=True)
CALLED = Form(offered=("clock",), arguments={}, must_call=True, hold=False)


@pytest.mark.parametrize(
    ("form", "first", "more"),
    [
        (CALLED, openai_call(0, ""), openai_call(0, PIECE)),
        (CALLED, openai_delta(content=PIECE), openai_delta(content=PIECE)),
        (CALLED, openai_delta(reasoning_content=PIECE), openai_delta(reasoning_content=PIECE)),
        (HELD, openai_delta(reasoning_content=PIECE), openai_delta(reasoning_content=PIECE)),
        (HELD, openai_delta(content=PIECE), openai_delta(content=PIECE)),
    ],
)
def test_nothing_is_held_without_end(form: Form, first: bytes, more: bytes) -> None:
    many = Sampling(max_tokens=10_000_000)
    reader = ADAPTERS["trtllm-serve"].reader(replaced(OFFERS, form=form, sampling=many))
    given = [*reader.feed(first)]
    fed = 0
    while not given and fed < 100:
        given += reader.feed(more)
        fed += 1

    assert [INVALID] == given


def test_calls_without_number_are_no_answer() -> None:
    reader = ADAPTERS["trtllm-serve"].reader(replaced(OFFERS, form=CALLED))
    raw = b"".join(openai_call(number, "{}") for number in range(2000))

    assert INVALID == [*reader.feed(raw)][-1]
