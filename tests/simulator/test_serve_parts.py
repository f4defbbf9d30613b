"""What the parsers of reasoning and tools take out of a text."""

import itertools

import pytest
from hypothesis import given, strategies as st

from simulated_serve.parts import Call, Part, Words, between, parts

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def told(text: str, *, reasoning: bool = True, tools: bool = True) -> list[object]:
    return [
        (part.name, part.arguments)
        if isinstance(part, Call)
        else f"{part.kind}: {text[part.start : part.end]}"
        for part in parts(text, reasoning=reasoning, tools=tools)
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("Hello", ["content: Hello"]),
        ("<think>Hm.</think>\nYes", ["reasoning: Hm.", "content: Yes"]),
        ("<think>Hm", ["reasoning: Hm"]),
        ("Yes <think>no</think>", ["content: Yes <think>no</think>"]),
        (CALL, [("f", '{"a": 1}')]),
        (f"I look. {CALL}", ["content: I look. ", ("f", '{"a": 1}')]),
        (f"{CALL}\n{CALL}", [("f", '{"a": 1}'), ("f", '{"a": 1}')]),
        ("So <tool_call>{", ["content: So "]),
        ("<tool_call>no</tool_call>", ["content: <tool_call>no</tool_call>"]),
        ('<tool_call>["f"]</tool_call>', ['content: <tool_call>["f"]</tool_call>']),
        (f"<think>Hm.</think>{CALL}", ["reasoning: Hm.", ("f", '{"a": 1}')]),
    ],
)
def test_parts_of_a_text(text: str, wanted: list[object]) -> None:
    assert wanted == told(text)


def test_a_server_without_parsers_takes_nothing_out() -> None:
    text = f"<think>Hm.</think>{CALL}"
    assert [f"content: {text}"] == told(text, reasoning=False, tools=False)


@given(
    pieces=st.lists(st.sampled_from(["Yes", "<think>Hm.</think>", CALL, "<tool_call>", " "])),
    cuts=st.lists(st.integers(0, 400)),
)
def test_a_stream_says_the_same_wherever_it_is_cut(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)
    whole = parts(text, reasoning=True, tools=True)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    streamed = [
        part for start, end in itertools.pairwise(places) for part in between(whole, start, end)
    ]

    assert joined(whole) == joined(streamed)


def joined(found: tuple[Part, ...] | list[Part]) -> list[Part]:
    """Put neighbouring words of one kind together."""
    made: list[Part] = []
    for part in found:
        match made[-1] if made else None, part:
            case Words(kind, start, middle), Words(same, first, end) if (kind, middle) == (
                same,
                first,
            ):
                made[-1] = Words(kind, start, end)
            case _:
                made.append(part)
    return made
