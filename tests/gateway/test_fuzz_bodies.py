"""Whatever stands in a request's body: a request that can be worked with, or a refusal in words."""

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.completion_request import read_completion_request
from headgate_gateway.edge.embedding_request import read_embedding_request
from headgate_gateway.edge.errors import error_body
from headgate_gateway.edge.read_chat import read_chat_request
from headgate_gateway.refusals import Refusal

from .fuzzing import TRIES, hold, mutated, seeds

READERS: Final[dict[str, Callable[[bytes], Asked | Refusal]]] = {
    "chat": read_chat_request,
    "completion": read_completion_request,
    "embedding": read_embedding_request,
}
WORDS: Final = (
    b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"true", b"1e999", b"-0", b"1" * 400, b"NaN",
    b'"\\ud800"', b"\\u0000", b"\xff", b"\xed\xa0\x80", b"[" * 2000,
    b'{"a":' * 2000, b'"model":"m",',
    b'"stream":true,', b'"n":2,', b'"tools":[],', b'"stop":["a"],', b'"messages":[],',
)  # fmt: skip
NAMES: Final = st.sampled_from(
    (
        "model", "messages", "role", "content", "stream", "stream_options", "include_usage",
        "max_tokens", "stop", "tools", "type", "function", "name", "arguments", "parameters",
        "tool_choice", "response_format", "json_schema", "schema", "prompt", "input",
        "encoding_format", "dimensions", "text", "temperature", "seed", "user", "n", "logit_bias",
        "tool_calls", "id",
    )
)  # fmt: skip
WORTHY: Final = st.sampled_from(
    ("user", "assistant", "tool", "function", "text", "json_schema", "json_object", "auto", "m")
)
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORTHY,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=30,
)


def check(reader: str, body: bytes) -> None:
    result = READERS[reader](body)
    if isinstance(result, Refusal):
        assert 400 <= result.status < 500
        told = json.loads(error_body(result))["error"]
        assert (result.message, result.param) == (told["message"], told["param"])
        assert len(result.message) < 1000
        return
    value: Any = json.loads(body)
    assert value["model"] == result.model
    assert all(isinstance(text, str) for text in result.texts)
    assert result.streams in (True, False)
    assert result.limit is None or result.limit[1] > 0
    for schema in result.schemas:
        msgspec.json.decode(schema)
    msgspec.json.encode(result)


@pytest.mark.parametrize("body", seeds("bodies"))
@pytest.mark.parametrize("reader", READERS)
def test_every_body_of_the_corpus_is_read_or_refused(reader: str, body: bytes) -> None:
    check(reader, body)


@pytest.mark.parametrize("reader", READERS)
def test_any_bytes_are_read_or_refused(reader: str) -> None:
    @TRIES
    @given(body=mutated(seeds("bodies"), WORDS))
    def holds(body: bytes) -> None:
        check(reader, body)

    hold(holds)


@pytest.mark.parametrize("reader", READERS)
def test_any_json_is_read_or_refused(reader: str) -> None:
    @TRIES
    @given(value=JSON, whole=st.booleans())
    def holds(value: Any, whole: bool) -> None:
        if whole and isinstance(value, dict):
            value = {"model": "m", "messages": [], "prompt": "", "input": ""} | value
        check(reader, json.dumps(value).encode())

    hold(holds)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 4_000_000, id="lists"),
        pytest.param(b'{"a":' * 800_000, id="objects"),
        pytest.param(b'"' + b"\\u0041" * 600_000, id="escapes"),
        pytest.param(b" " * 4_000_000, id="spaces"),
        pytest.param(b"9" * 4_000_000, id="digits"),
    ],
)
def test_the_largest_body_of_one_kind_is_refused_and_hangs_nothing(
    reader: str, body: bytes
) -> None:
    assert isinstance(READERS[reader](body), Refusal)
