"""What is read of texts that grow, without decoding them again, is what decoding them finds."""

import json
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from hypothesis import given, strategies as st

from headgate_gateway.calls.adapter import Sampling, Task
from headgate_gateway.calls.adapters import ADAPTERS
from headgate_gateway.calls.events import Event, Failed
from headgate_gateway.calls.growing import Growing

TASK = Task(endpoint="chat/completions", prompt="prompt", sampling=Sampling(max_tokens=100))
WORDS = st.text('a \n"\\}{,\u00e9\ufffd\U0001f6a2', max_size=3)
FIELDS = ("finish_reason", "model_name", "num_input_tokens", "error", 'a,"text_output')


def event(text: str, more: dict[str, Any], *, ascii_only: bool) -> bytes:
    fields = {"finish_reason": "None", "model_name": "m"} | more | {"text_output": text}
    data = json.dumps(fields, ensure_ascii=ascii_only, separators=(",", ":"))
    return b"data: %s\n\n" % data.encode()


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    """Events as a model server sends them, and now and then something is odd about one."""
    found, text, more = [], "", dict[str, Any]()
    odd = st.integers(0, 9).map(lambda number: number == 0)
    for word in draw(st.lists(WORDS, max_size=8)):
        text += word
        if draw(odd):
            value = draw(st.sampled_from(["None", "stop", "", 1, None]))
            more = {draw(st.sampled_from(FIELDS)): value}
        piece = event(text, more, ascii_only=draw(odd))
        if draw(odd):
            at, size = draw(st.integers(0, len(piece))), draw(st.integers(0, 3))
            new = draw(st.sampled_from([b"", b'"', b"\\", b"\n", b"}", b"\xff", b"\\u", b" "]))
            piece = piece[:at] + new + piece[at + size :]
        if draw(odd):
            at = draw(st.integers(0, len(piece)))
            found.append(piece[:at])
            piece = piece[at:]
        found.append(piece)
    return found


def read(found: list[bytes]) -> list[object]:
    """All that a reader says of pieces."""
    reader = ADAPTERS["triton-llmapi"].reader(TASK)
    said: list[object] = []
    steps: list[Sequence[Event]] = []
    for piece in found:
        steps.append(reader.feed(piece))
        said += [*steps[-1], reader.usage, reader.error]
        if steps[-1] and isinstance(steps[-1][-1], Failed):
            return said
    return [*said, *reader.end()]


@given(pieces())
def test_events_that_only_grow_say_what_decoding_finds_in_them(found: list[bytes]) -> None:
    with patch.object(Growing, "more", return_value=None):
        decoded = read(found)

    assert decoded == read(found)


def test_only_the_first_event_is_decoded_while_its_text_grows() -> None:
    growing = Growing()
    texts = ["One", 'One "two"', 'One "two"\n\u00e9']
    said = []
    for text in texts:
        piece = event(text, {}, ascii_only=False)
        said.append(growing.more(piece))
        if said[-1] is None:
            growing.learn(piece, text)

    assert [None, ' "two"', "\n\u00e9"] == said


def test_an_event_with_another_end_has_to_be_decoded() -> None:
    growing = Growing()
    growing.learn(event("One", {}, ascii_only=False), "One")
    last = event("One two", {"finish_reason": "stop"}, ascii_only=False)

    assert growing.more(last) is None
