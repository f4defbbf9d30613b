"""What rules may know of an answer, word by word."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate_api.snapshot import VerifierBody
from headgate_gateway.calls.adapter import Form, Sampling, Task
from headgate_gateway.calls.events import End, Event, FinishReason, Text, ToolCall, Usage
from headgate_gateway.calls.filters import is_object
from headgate_gateway.edge.read_chat import read_chat_request
from headgate_gateway.refusals import Refusal
from headgate_gateway.routing.accept import (
    FLAWS,
    LONG,
    READ,
    Answer,
    citations,
    flaws,
    refuses,
)
from headgate_gateway.routing.verify import repair, score, verification
from headgate_policy.cel import ACCEPT, compile_rule

HELLO = [{"role": "user", "content": "Hello"}]
PAY: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "pay",
        "parameters": {
            "type": "object",
            "properties": {"sum": {"type": "integer"}},
            "required": ["sum"],
        },
    },
}
EVIDENCE = [{"source": "tides.txt", "text": "a"}, {"source": "moon", "text": "b"}]


def answer(
    *events: Event,
    reason: FinishReason = "stop",
    form: Form | None = None,
    sources: int = 2,
    logprob: float | None = None,
    **asked: Any,
) -> Answer:
    chat = read_chat_request(msgspec.json.encode({"model": "m", "messages": HELLO} | asked))
    assert not isinstance(chat, Refusal)
    task = Task(
        endpoint="chat/completions", sampling=Sampling(max_tokens=9), form=form, sources=sources
    )
    return Answer(events, End(reason, Usage(3, 7), logprob), chat, task)


def holds(rule: str, of: Answer) -> bool:
    return compile_rule(rule, ACCEPT).holds(of)


def test_there_is_a_way_to_find_each_word_that_rules_may_read() -> None:
    of = answer(Text("Hi"))
    for word in ACCEPT.words.values():
        value = getattr(of, word.attribute)
        assert value is not None or word.optional


def call(arguments: str, name: str = "pay") -> ToolCall:
    return ToolCall(0, "call-1", name, arguments)


JSON = Form(arguments={}, check=is_object, hold=True)


@pytest.mark.parametrize(
    ("word", "value", "of"),
    [
        ("answer_text", "Good day", answer(Text("Good"), Text(" day"))),
        ("answer_finishReason", "length", answer(reason="length")),
        ("answer_outputTokens", 7, answer()),
        ("answer_schemaValid", True, answer(Text("no JSON"))),
        ("answer_schemaValid", True, answer(Text('{"a":'), Text("1}"), form=JSON)),
        ("answer_schemaValid", False, answer(Text('{"a":'), form=JSON, reason="length")),
        ("answer_schemaValid", True, answer(call("{}"), form=JSON)),
        ("answer_toolCallsValid", True, answer(Text("Hi"))),
        ("answer_toolCallsValid", True, answer(call('{"sum":1}'), tools=[PAY])),
        ("answer_toolCallsValid", False, answer(call('{"sum":"1"}'), tools=[PAY])),
        ("answer_toolCallsValid", False, answer(call("{}"), tools=[PAY])),
        ("answer_toolCallsValid", False, answer(call("{}", "other"), tools=[PAY])),
        ("answer_refused", True, answer(Text("I cannot help with that."))),
        ("answer_refused", True, answer(Text("Fine"), reason="content_filter")),
        ("answer_refused", False, answer(Text("Fine"))),
        ("answer_logprob_mean", None, answer(Text("Hi"))),
        ("answer_logprob_mean", -0.5, answer(Text("Hi"), logprob=-3.5)),
        ("answer_logprob_min", None, answer(Text("Hi"), logprob=-1.5)),
        ("answer_citations_total", 2, answer(Text("[1] [3]"), context=EVIDENCE)),
        ("answer_citations_resolved", 1, answer(Text("[1] [3]"), context=EVIDENCE)),
        ("answer_citations_resolved", 1, answer(Text("[1] [2]"), sources=1, context=EVIDENCE)),
        ("answer_verifier_score", None, answer(Text("Hi"))),
    ],
)
def test_a_word_is_what_it_says(word: str, value: object, of: Answer) -> None:
    assert value == getattr(of, word)


def test_log_probabilities_are_those_of_all_tokens() -> None:
    first = tuple(msgspec.Raw(b'{"token":"a","logprob":%s}' % said) for said in (b"-1", b"-2.5"))
    second = (msgspec.Raw(b'{"token":"b","logprob":0.5}'),)
    of = answer(Text("ab", first), Text("c", second))

    assert (-3.5 / 3, -2.5) == (of.answer_logprob_mean, of.answer_logprob_min)
    assert answer(Text("a", (msgspec.Raw(b"{}"),))).answer_logprob_mean is None


def test_a_tool_without_a_usable_schema_takes_any_object() -> None:
    broken = {"type": "function", "function": {"name": "pay", "parameters": {"type": "nonsense"}}}

    assert answer(call('{"sum":1}'), tools=[broken]).answer_toolCallsValid
    assert not answer(call("[1]"), tools=[broken]).answer_toolCallsValid


def test_what_was_read_is_told_without_texts() -> None:
    of = answer(Text("A secret"))

    assert holds("answer.text.contains('secret') && !answer.refused", of)
    assert {"answer.refused": False} == of.read()


@pytest.mark.parametrize(
    ("rule", "wants"),
    [
        ("answer.verifier.score > 0.5", True),
        ("has(answer.verifier.score)", True),
        ("answer.refused && answer.verifier.score > 0.5", False),
        ("!answer.refused || answer.verifier.score > 0.5", False),
        ("answer.outputTokens > 3", False),
    ],
)
def test_a_score_is_wanted_only_where_it_decides(rule: str, wants: bool) -> None:
    of = answer(Text("Fine"))
    holds(rule, of)

    assert wants == of.wants_score


def test_a_score_that_came_is_the_one_that_counts() -> None:
    of = answer(Text("Fine"))
    assert not holds("answer.verifier.score > 0.5", of)
    of.scored(0.75)

    assert holds("answer.verifier.score > 0.5", of)
    assert not of.wants_score
    assert {"answer.verifier.score": 0.75} == of.read()
    of.scored(None)
    assert not holds("answer.verifier.score > 0.5", of)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, I can\u2019t assist with this request.",
        "I cannot provide instructions for that.",
        "Sorry, I am not able to discuss this.",
        "Unfortunately, I'm unable to do so.",
        "I'm not able to answer.",
        "As an AI language model, I cannot have opinions.",
        "  **I must decline to help.**",
        "Es tut mir leid, aber ich kann dabei nicht helfen.",
        "Dabei kann ich leider nicht helfen.",
        "Je suis désolé, mais je ne peux pas vous aider.",
        "Lo siento, pero no puedo ayudarte con eso.",
    ],
)
def test_a_refusal_is_seen_by_how_it_begins(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The tide is high at noon.",
        "I can help with that.",
        "Sorry for the delay! The tide is high.",
        "You cannot sail today: the wind is too strong.",
        "I'm sorry to hear that. Here is what to do: keep calm.",
        "Es ist nicht so einfach.",
        "x" * 300 + " I cannot help with that.",
    ],
)
def test_what_only_sounds_like_a_refusal_is_none(text: str) -> None:
    assert not refuses(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Nothing here.", (0, 0)),
        ("High [1].", (1, 1)),
        ("High [0] or [3].", (2, 0)),
        ("High [1, 2; 9].", (3, 2)),
        ("High [tides.txt] and [moon].", (2, 2)),
        ("High [sun.txt].", (1, 0)),
        ("As in https [a/b] and [c#d].", (2, 0)),
        ("A [note] on [something else].", (0, 0)),
        ("A [link](http://x) and [1](y) and [ref]: z", (0, 0)),
        ("Code `a[1]` and ```\nb[2]\n```", (0, 0)),
        ("- [ ] to do\n- [x] done", (0, 0)),
    ],
)
def test_citations_are_counted(text: str, found: tuple[int, int]) -> None:
    assert found == citations(text, ("tides.txt", "moon"))


def test_citations_are_looked_for_where_rules_read() -> None:
    of = answer(Text("x" * (READ - 3) + "[1]"), Text("[1]"), context=EVIDENCE)

    assert (1, 1) == (of.answer_citations_total, of.answer_citations_resolved)


def test_what_takes_long_is_judged_beside_the_event_loop() -> None:
    long = '{"sum": "' + "1" * LONG + '"}'

    assert not answer(Text("fine"), ToolCall(0, "1", "pay", '{"sum": 1}'), tools=[PAY]).slow
    assert answer(ToolCall(0, "1", "pay", long), tools=[PAY]).slow
    assert answer(Text("x" * LONG + "x")).slow


@given(st.text())
def test_any_text_can_be_judged(text: str) -> None:
    total, resolved = citations(text, ("a", "b"))
    value = score(text)

    assert 0 <= resolved <= total
    assert refuses(text) in {True, False}
    assert value is None or 0 <= value <= 1


def test_what_may_be_wrong_is_told_by_words_that_rules_have() -> None:
    assert set(FLAWS) <= set(ACCEPT.words)
    words = {"answer.citations.total": 2, "answer.citations.resolved": 1, "answer.refused": True}

    assert ["it refuses to answer", "it cites sources that were not given"] == flaws(words)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("0.85", 0.85),
        ("Score: 0.5.", 0.5),
        ("**0.9**\n", 0.9),
        ("1.5", None),
        ("-0.5", None),
        ("85%", None),
        ("0,5", None),
        ("8 of 10", None),
        ("", None),
        ("good", None),
    ],
)
def test_a_score_is_one_number_from_0_to_1(said: str, value: float | None) -> None:
    assert value == score(said)


def test_a_verifier_reads_the_question_and_the_answer_and_its_own_instructions() -> None:
    chat = read_chat_request(msgspec.json.encode({"model": "m", "messages": HELLO}))
    assert not isinstance(chat, Refusal)
    verifier = VerifierBody(model="judge", instructions="Be strict.", max_output_tokens=8)
    asked, rule, body = verification(verifier, chat, "The answer")

    assert ["Be strict."] == [m.text for m in asked.messages if m.role == "system"]
    assert all(part in asked.messages[1].text for part in ("Hello", "The answer"))
    assert (0.0, 8, 8) == (
        asked.temperature,
        asked.max_tokens,
        rule.generation.cap_max_output_tokens,
    )
    assert [m.text for m in asked.messages] == [
        m["content"] for m in msgspec.json.decode(body)["messages"]
    ]


def test_a_repair_shows_the_answer_and_its_fault() -> None:
    said, wish = repair("Wrong", "it is not in the form asked for")

    assert ("assistant", "Wrong", "user") == (said.role, said.text, wish.role)
    assert "it is not in the form asked for" in wish.text
