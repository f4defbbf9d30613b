"""Tool calls are found in a model's text however it is cut, and nothing else is taken for one."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from headgate_gateway.calls.events import End, Event, Text, ToolCall, Usage
from headgate_gateway.calls.toolcalls import ToolCalls
from headgate_policy.tools import HERMES, LLAMA, MISTRAL, Dialect

USAGE = Usage(1, 2)
NAMES = ("clock", "weather")


def read(
    dialect: Dialect, pieces: Sequence[str], reason: str = "stop", **more: object
) -> list[tuple[str, ...]]:
    """Feed an answer; text that came in several pieces is one text, ids are left out."""
    filter_ = ToolCalls(dialect, NAMES, lambda: USAGE, **more)  # type: ignore[arg-type]
    given_: list[Event] = [*map(Text, pieces), End(reason, USAGE)]  # type: ignore[arg-type]
    told: list[tuple[str, ...]] = []
    for event in given_:
        for out in filter_.take(event):
            match out:
                case Text(text):
                    assert text
                    if told and told[-1][0] == "text":
                        text = told.pop()[1] + text
                    told.append(("text", text))
                case ToolCall(index, _, name, arguments):
                    told.append(("call", str(index), name, arguments))
                case End(finish, _):
                    told.append(("end", finish))
                    return told
    raise AssertionError("no end")


CASES: dict[str, tuple[Dialect, str, list[tuple[str, ...]]]] = {
    "a call": (
        HERMES,
        '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>',
        [("call", "0", "clock", '{"zone": "UTC"}'), ("end", "tool_calls")],
    ),
    "text, and two calls": (
        HERMES,
        (
            'I look.\n<tool_call>{"name":"clock","arguments":{}}</tool_call>\n'
            '<tool_call>\n{"name":"weather"}\n</tool_call>\n'
        ),
        [
            ("text", "I look."),
            ("call", "0", "clock", "{}"),
            ("call", "1", "weather", "{}"),
            ("end", "tool_calls"),
        ],
    ),
    "text after a call": (
        HERMES,
        '<tool_call>{"name":"clock"}</tool_call> There.',
        [("call", "0", "clock", "{}"), ("text", " There."), ("end", "tool_calls")],
    ),
    "marks and braces inside of strings": (
        HERMES,
        '<tool_call>{"name":"clock","arguments":{"a":"</tool_call>\\"}{"}}</tool_call>',
        [("call", "0", "clock", '{"a":"</tool_call>\\"}{"}'), ("end", "tool_calls")],
    ),
    "a call without its last mark": (
        HERMES,
        '<tool_call>{"name":"clock"}',
        [("call", "0", "clock", "{}"), ("end", "tool_calls")],
    ),
    "arguments that are JSON within JSON": (
        HERMES,
        '<tool_call>{"name":"clock","arguments":"{\\"a\\": 1}"}</tool_call>',
        [("call", "0", "clock", '{"a": 1}'), ("end", "tool_calls")],
    ),
    "a cut call": (
        HERMES,
        'So <tool_call>{"name":"clock","argu',
        [("text", 'So <tool_call>{"name":"clock","argu'), ("end", "stop")],
    ),
    "a call of a tool that nobody offered": (
        HERMES,
        '<tool_call>{"name":"shell"}</tool_call>',
        [("text", '<tool_call>{"name":"shell"}</tool_call>'), ("end", "stop")],
    ),
    "broken JSON": (
        HERMES,
        "x <tool_call>{name: clock}</tool_call>",
        [("text", "x <tool_call>{name: clock}</tool_call>"), ("end", "stop")],
    ),
    "arguments that are no object": (
        HERMES,
        '<tool_call>{"name":"clock","arguments":[1]}</tool_call>',
        [("text", '<tool_call>{"name":"clock","arguments":[1]}</tool_call>'), ("end", "stop")],
    ),
    "a mark that is spoken of": (
        HERMES,
        "The mark is <tool_call> and nothing else < <tool_",
        [("text", "The mark is <tool_call> and nothing else < <tool_"), ("end", "stop")],
    ),
    "a list": (
        MISTRAL,
        '[TOOL_CALLS] [{"name": "clock", "arguments": {}}, {"name": "weather", "arguments": {}}]',
        [("call", "0", "clock", "{}"), ("call", "1", "weather", "{}"), ("end", "tool_calls")],
    ),
    "a list whose mark the detokenizer dropped": (
        MISTRAL,
        ' [{"name": "clock", "arguments": {}}]',
        [("call", "0", "clock", "{}"), ("end", "tool_calls")],
    ),
    "an answer that begins with a bracket": (
        MISTRAL,
        "[1] is a footnote.",
        [("text", "[1] is a footnote."), ("end", "stop")],
    ),
    "JSON alone": (
        LLAMA,
        '{"name": "clock", "parameters": {"zone": "UTC"}}',
        [("call", "0", "clock", '{"zone": "UTC"}'), ("end", "tool_calls")],
    ),
    "JSON behind a mark, and again": (
        LLAMA,
        '<|python_tag|>{"name": "clock", "parameters": {}}; {"name": "weather"}',
        [("call", "0", "clock", "{}"), ("call", "1", "weather", "{}"), ("end", "tool_calls")],
    ),
    "JSON that is an answer": (
        LLAMA,
        '{"answer": 42} {"name": "clock"}',
        [("text", '{"answer": 42} {"name": "clock"}'), ("end", "stop")],
    ),
    "text before JSON": (
        LLAMA,
        ' Try {"name": "clock"}',
        [("text", ' Try {"name": "clock"}'), ("end", "stop")],
    ),
    "nothing": (LLAMA, "", [("end", "stop")]),
    "white space": (LLAMA, " \n", [("text", " \n"), ("end", "stop")]),
}


@pytest.mark.parametrize(("dialect", "text", "expected"), CASES.values(), ids=CASES)
def test_an_answer_is_text_and_calls(
    dialect: Dialect, text: str, expected: list[tuple[str, ...]]
) -> None:
    assert expected == read(dialect, [text])
    assert expected == read(dialect, list(text))


PARTS = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<", "<tool", "[TOOL"),
        *('{"name":"clock"}', '{"name":"clock","arguments":{"a":["}"]}}', '[{"name":"weather"}]'),
        *('{"name":"shell"}', "{", "}", "[", "]", '"', "\\", " ", "\n", ";", "x", "é"),
    ]
)


@given(st.data(), st.lists(PARTS, max_size=12), st.sampled_from([HERMES, LLAMA, MISTRAL]))
def test_no_cut_of_the_text_changes_what_it_says(
    data: st.DataObject, parts: list[str], dialect: Dialect
) -> None:
    text = "".join(parts)
    places = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]
    most = data.draw(st.sampled_from([None, 1]))

    assert read(dialect, [text], most=most) == read(dialect, pieces, most=most)


@given(st.lists(PARTS, max_size=12), st.sampled_from([HERMES, LLAMA, MISTRAL]))
def test_an_answer_without_a_call_comes_out_as_it_went_in(
    parts: list[str], dialect: Dialect
) -> None:
    text = "".join(parts)
    told = read(dialect, list(text))
    if not [part for part in told if part[0] == "call"]:
        assert text == "".join(part[1] for part in told if part[0] == "text")


def test_an_answer_of_one_call_ends_with_it() -> None:
    text = '<tool_call>{"name":"clock"}</tool_call><tool_call>{"name":"weather"}</tool_call>'
    assert [("call", "0", "clock", "{}"), ("end", "tool_calls")] == read(HERMES, [text], most=1)


@pytest.mark.parametrize("dialect", [HERMES, LLAMA, MISTRAL])
def test_a_call_that_the_prompt_begins_is_one_call(dialect: Dialect) -> None:
    rest = '{"zone": "UTC"}}' + ("]" if dialect is MISTRAL else "")
    said = dialect.opening("clock")
    expected = [("call", "0", "clock", '{"zone": "UTC"}'), ("end", "tool_calls")]
    assert expected == read(dialect, list(rest), most=1, said=said)
    any_tool = dialect.opening(None)
    assert expected == read(dialect, [f'clock", "arguments": {rest}'], said=any_tool)


def test_a_call_that_the_limit_cut_is_text_and_the_reason_is_the_limit() -> None:
    text = '<tool_call>{"name":"clock"}</tool_call><tool_call>{"na'
    assert [("call", "0", "clock", "{}"), ("text", '<tool_call>{"na'), ("end", "length")] == read(
        HERMES, [text], "length"
    )


def test_a_call_without_an_end_is_not_waited_for_without_end() -> None:
    pieces = ['<tool_call>{"name": "clock", "arguments": {"a": "', *["x" * 1024] * 300]
    filter_ = ToolCalls(HERMES, NAMES, lambda: USAGE)
    given_ = [out for piece in pieces for out in filter_.take(Text(piece))]

    assert "".join(pieces) == "".join(out.text for out in given_ if isinstance(out, Text))


def test_ids_have_the_form_that_templates_take() -> None:
    [call] = ToolCalls(MISTRAL, NAMES, lambda: USAGE).take(Text('[{"name": "clock"}]'))
    assert isinstance(call, ToolCall)
    assert 9 == len(call.id)
    assert call.id.isalnum()
