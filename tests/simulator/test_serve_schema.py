"""What guided decoding says is valid, whatever the schema."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given, strategies as st

from simulated_serve.schema import instance

LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"]}),
    st.builds(
        lambda least, more: {"type": "integer", "minimum": least, "maximum": least + more},
        st.integers(-9, 9),
        st.integers(0, 9),
    ),
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 40),
        st.integers(0, 9),
    ),
    st.lists(st.integers() | st.text(), min_size=1).map(lambda values: {"enum": values}),
    st.integers().map(lambda value: {"const": value}),
)


def holders(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.builds(
            lambda properties, required: {
                "type": "object",
                "properties": properties,
                "required": [name for name in properties if required],
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abcd"), inner),
            st.booleans(),
        ),
        st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least},
            inner,
            st.integers(0, 3),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices}),
    )


@given(schema=st.recursive(LEAVES, holders, max_leaves=12), seed=st.text())
def test_a_value_is_valid_and_always_the_same(schema: dict[str, Any], seed: str) -> None:
    value = instance(schema, seed)
    jsonschema.validate(value, schema)
    assert value == instance(schema, seed)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "multipleOf": 5}, 5),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "string", "format": "date"}, "2026-01-02"),
        ({"type": "array", "prefixItems": [{"const": 1}, {"const": "x"}]}, [1, "x"]),
        ({"$ref": "#/$defs/id", "$defs": {"id": {"const": 7}}}, 7),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]},
            {"a": 1, "b": 2},
        ),
        ({"type": "object", "required": ["free"]}, {"free": "anchor"}),
    ],
)
def test_keywords(schema: dict[str, Any], value: object) -> None:
    assert value == instance(schema, "")


def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    schema = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
        "$ref": "#/$defs/node",
    }
    jsonschema.validate(instance(schema, ""), schema)
