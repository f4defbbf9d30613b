"""What rules may know of a request, word by word, and the guesses among them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate_api.snapshot import ApiKey, RouteBody, TenantBody
from headgate_gateway.edge.completion_request import read_completion_request
from headgate_gateway.edge.embedding_request import read_embedding_request
from headgate_gateway.edge.exchange import Head
from headgate_gateway.edge.read_chat import read_chat_request
from headgate_gateway.refusals import Refusal
from headgate_gateway.request import Request
from headgate_gateway.routing.features import WORDS, Features, Surroundings
from headgate_gateway.routing.guesses import (
    CODE_CHARACTERS,
    UNKNOWN,
    code_share,
    language,
)
from headgate_gateway.routing.tables import Credential, Tables, Tenant, compile_entry
from headgate_gateway.timeline import Timeline
from headgate_policy.cel import WHEN, compile_rule

from .conftest import entry
from .courses import rule
from .told import trace

NOON = 1_704_110_400.0  # Monday 1 January 2024, 12:00 UTC
TOOL = {"type": "function", "function": {"name": "clock"}}
ROUTE = compile_entry(
    entry(
        "RoutingPolicy",
        "front",
        RouteBody(
            models=("chat",),
            match_headers=("x-team", "x-none", "content-length"),
            routes=(rule("all"),),
        ),
    )
)


def features(
    *messages: dict[str, Any],
    headers: dict[bytes, bytes] | None = None,
    length: bytes | None = None,
    key: ApiKey | None = None,
    now: float = NOON,
    read: Any = read_chat_request,
    **more: Any,
) -> Features:
    said = {"messages": list(messages) or [{"role": "user", "content": "Hello"}]}
    body = msgspec.json.encode(
        {"model": "chat"} | (said if read is read_chat_request else {}) | more
    )
    asked = read(body)
    assert not isinstance(asked, Refusal)
    tenant = Tenant("chat", TenantBody(tenant="acme", priority="Critical"), ())
    request = Request(
        id="r",
        head=Head("POST", "/", headers or {}, length),
        body=body,
        tables=Tables(),
        loaded=True,
        now=now,
        trace=trace(),
        timeline=Timeline(0.0),
    )
    request.credential = Credential(tenant, key or ApiKey(sha256="", name="first"))
    request.asked = asked
    request.route = ROUTE  # type: ignore[assignment]
    return Features(request, Surroundings("here", lambda: 0.5))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_there_is_a_way_to_find_each_word_that_rules_may_read() -> None:
    assert {word.attribute for word in WHEN.words.values()} == set(WORDS)


@pytest.mark.parametrize(
    "read",
    [
        (read_chat_request, {}),
        (read_completion_request, {"prompt": "Once upon a time"}),
        (read_embedding_request, {"input": ["one", "two"]}),
    ],
    ids=["chat", "completion", "embedding"],
)
def test_each_word_has_a_value_of_its_type_for_every_endpoint(read: Any) -> None:
    of = features(read=read[0], **read[1])
    kinds = {"bool": bool, "int": int, "double": float, "string": str, "map": dict, "list": tuple}
    for word in WHEN.words.values():
        value = getattr(of, word.attribute)
        if value is None:
            assert word.optional
        else:
            kind = kinds[word.type.name]
            assert isinstance(value, (int, float) if kind is float else kind), word.name
            assert not word.values or value in word.values


EVIDENCE = [{"source": "tides.txt", "text": "High at noon."}, {"source": "b", "text": "c"}]


@pytest.mark.parametrize(
    ("word", "value", "more"),
    [
        ("request_model", "chat", {}),
        ("request_format", "text", {}),
        ("request_format", "text", {"response_format": {"type": "text"}}),
        ("request_format", "json_object", {"response_format": {"type": "json_object"}}),
        (
            "request_format",
            "json_schema",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        ),
        ("request_stream", True, {"stream": True}),
        ("request_stream", False, {}),
        ("request_hasTools", True, {"tools": [TOOL]}),
        ("request_hasTools", False, {"tools": [TOOL], "tool_choice": "none"}),
        ("request_tools", ("clock",), {"tools": [TOOL]}),
        ("request_tools", (), {}),
        ("request_temperature", 0.5, {"temperature": 0.5}),
        ("request_temperature", None, {}),
        ("request_sources", ("tides.txt", "b"), {"context": EVIDENCE}),
        ("request_sources", (), {}),
        ("request_headers", {"x-team": "red"}, {"headers": {b"x-team": b"red", b"x-b": b"c"}}),
        ("request_headers", {"x-team": "é"}, {"headers": {b"x-team": "é".encode()}}),
        ("request_headers", {"x-team": "é"}, {"headers": {b"x-team": b"\xe9"}}),
        ("request_headers", {}, {"headers": {b"cookie": b"secret"}}),
        ("request_headers", {"content-length": "17"}, {"length": b"17"}),
        ("tenant_name", "acme", {}),
        ("tenant_priority", "Critical", {}),
        ("user_name", "", {}),
        ("user_name", "jo", {"user": "jo"}),
        ("user_name", "kim", {"user": "jo", "key": ApiKey(sha256="", name="k", user="kim")}),
        ("user_tier", "gold", {"key": ApiKey(sha256="", name="k", tier="gold")}),
        ("user_tier", "", {}),
        ("region_name", "here", {}),
        ("region_mode", "Full", {}),
        ("region_load", 0.5, {}),
        ("now_hour", 12, {}),
        ("now_weekday", "Mon", {}),
        ("now_weekday", "Sun", {"now": NOON - 86400}),
    ],
)
def test_a_word_is_what_it_says(word: str, value: object, more: dict[str, Any]) -> None:
    assert value == getattr(features(**more), word)


def test_turns_are_what_the_user_has_said() -> None:
    assistant = {"role": "assistant", "content": "Yes"}

    assert 2 == features(user("a"), assistant, user("b")).request_turns
    assert 1 == features(read=read_completion_request, prompt="a").request_turns


def test_a_language_is_that_of_the_user_s_last_message() -> None:
    german = user("Bitte erkläre mir, wie das mit der Flut ist.")

    assert "de" == features({"role": "system", "content": "You are kind."}, german).request_language
    assert "en" == features(german, user("And what of the tides?")).request_language


def test_only_what_was_read_is_found_and_kept() -> None:
    of = features(user("Hello there"), stream=True)
    found = of.request_stream, of.request_turns, of.request_stream

    assert (True, 1, True) == found
    assert {"request.stream": True, "request.turns": 1} == of.read()


# Guesses


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("How do I tie a bowline with one hand?", "en"),
        ("Wie knote ich einen Palstek mit einer Hand?", "de"),
        ("Comment faire un nœud de chaise avec une seule main ?", "fr"),
        ("¿Cómo se hace un nudo as de guía con una mano?", "es"),
        ("Come si fa una gassa d'amante con una mano sola?", "it"),
        ("Como faço um nó lais de guia com uma mão?", "pt"),
        ("Hoe leg ik een paalsteek met één hand?", "nl"),
        ("片手でもやい結びをするには?", "ja"),
        ("怎样用一只手打单套结?", "zh"),
        ("한 손으로 보라인 매듭을 어떻게 매나요?", "ko"),
        ("Как завязать беседочный узел одной рукой?", "ru"),
        ("Як \u0456з мотузки зробити вузол одн\u0456\u0454ю рукою?", "uk"),
        ("كيف أربط عقدة البولين بيد واحدة؟", "ar"),
        ("איך קושרים קשר בולין ביד אחת?", "he"),
        ("Πώς δένω καντηλίτσα με το ένα χέρι;", "el"),
        ("एक हाथ से बोलाइन कैसे बाँधें?", "hi"),
        ("", UNKNOWN),
        ("1234 + 5678", UNKNOWN),
        ("zzz qqq", UNKNOWN),
        ("What does the word λόγος mean, and how is it used in the text?", "en"),
    ],
)
def test_a_language_is_guessed(text: str, code: str) -> None:
    assert code == language(text)


@given(st.text(max_size=5000))
def test_guesses_are_made_of_any_text(text: str) -> None:
    assert 2 <= len(language(text)) <= 3
    assert 0.0 <= code_share(text) <= 1.0


def test_guesses_look_at_a_bounded_part() -> None:
    german = "Wie ist das mit der Flut und dem Mond? "

    assert "de" == language(german * 60 + "What is the tide and how is it? " * 9999)
    assert 0.0 == code_share("x = 1\n" * 1000 + "Only words, line by line.\n" * CODE_CHARACTERS)


@pytest.mark.parametrize("piece", ["a(", "a()", "; ", "x = ", "<a ", "if : ", "[", "( ) "])
def test_code_is_guessed_in_one_look_at_a_line_however_it_was_made_up(piece: str) -> None:
    # What looks at a part of it again and again takes seconds for this, and not milliseconds.
    padded = piece + " " * (CODE_CHARACTERS - 8) + "x"

    assert 0.0 <= code_share(padded) <= 1.0
    assert 0.0 <= code_share(piece * CODE_CHARACTERS + "x") <= 1.0


CODE = """def main():
    for name in names:
        print(name)
    return 0
"""


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("Why is the sky blue? I would like to know.", 0.0, 0.0),
        (CODE, 0.9, 1.0),
        (f"Why does it fail?\n```python\n{CODE}```\nThanks.", 0.6, 0.95),
        ("int main(void) {\n  return 0;\n}\n", 0.9, 1.0),
        ("    print(name) \n", 1.0, 1.0),
        ("SELECT name FROM ships WHERE tons > 5;", 1.0, 1.0),
        ("A list:\n- one thing\n- another thing\n", 0.0, 0.0),
        ("Dear Sir, if you agree (as I hope): write soon.", 0.0, 0.0),
    ],
)
def test_a_share_of_code_is_guessed(text: str, least: float, most: float) -> None:
    assert least <= code_share(text) <= most


@pytest.mark.parametrize(
    "when",
    [
        "tenant.budgetUsed > 0.9",
        "tenant.budgetUsed <= 0.9",
        "!(tenant.budgetUsed > 0.9)",
        "risk.tier == 'High'",
        "risk.tier != 'High'",
        "risk.tier in ['Low', 'Medium', 'High']",
        "has(risk.tier) && risk.tier != 'Low'",
        "request.turns > 9 || risk.tier != 'Low'",
        "request.turns < 9 ? risk.tier != 'Low' : true",
        "region.mode == 'Safe'",
        "region.mode in ['Reduced', 'Safe']",
    ],
)
def test_a_rule_about_what_nothing_measures_yet_takes_no_request(when: str) -> None:
    assert not compile_rule(when, WHEN, headers=()).holds(features())


def test_what_nothing_measures_yet_is_what_the_policy_s_status_says_it_is() -> None:
    found = features()
    for word in WHEN.words.values():
        if not word.measured:
            said = None if word.optional else word.values[0]
            assert said == getattr(found, word.attribute)
