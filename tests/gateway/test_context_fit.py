"""What is left out of a conversation, for every conversation."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate_api.snapshot import ContextBody, Droppable
from headgate_gateway.context.fit import LEFT_OUT, SYSTEM, Fitted, fit
from headgate_gateway.edge.chat_request import Message
from headgate_gateway.edge.chat_tools import Function, ToolCall

TRUNCATE = ContextBody(truncate=True)


def size(message: Message) -> int:
    """A character is a token here, and so are the marks around a message."""
    return len(message.text) + 1


def said(
    role: Any, text: str, *, calls: tuple[str, ...] = (), result: str | None = None
) -> Message:
    called = [ToolCall(id=name, function=Function("f", "{}")) for name in calls]
    return Message(role=role, content=text, tool_calls=called or None, tool_call_id=result)


def fitted(
    messages: list[Message],
    budget: int,
    rules: ContextBody = TRUNCATE,
    sources: tuple[int, ...] = (),
) -> Fitted:
    sizes = list(map(size, messages))
    return fit(messages, sizes, sources, budget=budget, rules=rules, count=size)


def texts(found: Fitted) -> list[str]:
    return [message.text for message in found.messages]


LONG = "x" * 100
TALK = [
    said("system", "Be brief."),
    said("user", "one"),
    said("assistant", "", calls=("c1",)),
    said("tool", LONG, result="c1"),
    said("assistant", "first"),
    said("user", "two"),
    said("assistant", "second"),
    said("user", "three"),
]
WHOLE = sum(map(size, TALK))


def test_what_fits_stays_as_it_is() -> None:
    found = fitted(TALK, WHOLE)
    assert (TALK, {}, WHOLE) == (found.messages, found.dropped, found.tokens)


def test_an_old_output_goes_first_and_leaves_its_call_a_result() -> None:
    found = fitted(TALK, WHOLE - 1)
    gained = len(LONG) - len(LEFT_OUT)
    assert ({"ToolOutput": 1}, gained) == (found.dropped, found.dropped_tokens)
    assert LEFT_OUT == found.messages[3].text
    assert "c1" == found.messages[3].tool_call_id
    assert WHOLE - gained == found.tokens


def test_the_oldest_turn_goes_with_its_calls_and_results() -> None:
    found = fitted(TALK, 40)
    assert ["Be brief.", "two", "second", "three"] == texts(found)
    assert {"ToolOutput": 1, "History": 1} == found.dropped


def test_only_what_is_listed_is_left_out() -> None:
    found = fitted(TALK, 40, ContextBody(truncate=True, drop_first=("ToolOutput",)))
    assert len(TALK) == len(found.messages)
    assert found.tokens > 40


@pytest.mark.parametrize(("keep", "left"), [(1, 2), (2, 4), (3, len(TALK)), (9, len(TALK))])
def test_the_last_turns_stay(keep: int, left: int) -> None:
    rules = ContextBody(truncate=True, drop_first=("History",), keep_turns=keep)
    assert left == len(fitted(TALK, 0, rules).messages)


def test_the_last_sources_go_first() -> None:
    found = fitted(TALK[-1:], 6 + 30, sources=(10, 20, 30))
    assert (2, {"Evidence": 1}, 6 + 30) == (found.sources, found.dropped, found.tokens)


def test_outputs_that_the_model_has_not_answered_to_stay() -> None:
    loop = [
        said("user", "Go on."),
        said("assistant", "", calls=("c1",)),
        said("tool", LONG, result="c1"),
        said("assistant", "", calls=("c2",)),
        said("tool", LONG, result="c2"),
    ]
    found = fitted(loop, 0)
    assert [LEFT_OUT, LONG] == [m.text for m in found.messages if m.role == "tool"]


def test_a_turn_does_not_begin_between_a_call_and_its_result() -> None:
    loop = [
        said("user", "one"),
        said("assistant", "", calls=("c1",)),
        said("user", "hurry"),
        said("tool", "4", result="c1"),
        said("user", "two"),
    ]
    rules = ContextBody(truncate=True, drop_first=("History",), keep_turns=1)
    assert ["two"] == texts(fitted(loop, 0, rules))
    assert loop[:4] == fitted(loop[:4], 0, rules).messages


def test_an_id_that_is_used_again_belongs_to_the_last_call() -> None:
    loop = [
        *(said("user", "one"), said("assistant", "", calls=("c",)), said("tool", "1", result="c")),
        *(said("user", "two"), said("assistant", "", calls=("c",)), said("tool", "2", result="c")),
    ]
    rules = ContextBody(truncate=True, drop_first=("History",))
    assert ["two", "", "2"] == texts(fitted(loop, 0, rules))


IDS = st.sampled_from("abc")
WORDS = st.text("x", max_size=80)
MESSAGES = st.lists(
    st.one_of(
        st.builds(said, st.sampled_from(["system", "developer", "user", "assistant"]), WORDS),
        st.builds(
            lambda text, calls: said("assistant", text, calls=tuple(calls)),
            WORDS,
            st.lists(IDS, min_size=1, max_size=3, unique=True),
        ),
        st.builds(lambda text, result: said("tool", text, result=result), WORDS, IDS),
    ),
    max_size=20,
)
KINDS = st.permutations(["ToolOutput", "Evidence", "History"])
RULES = st.builds(
    lambda kinds, first, keep: ContextBody(
        truncate=True, drop_first=tuple(kinds[:first]), keep_turns=keep
    ),
    KINDS,
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(1, 4)),
)


def results(messages: list[Message]) -> dict[tuple[int, str], int]:
    """How many results each call has, before its id is used again."""
    found: dict[tuple[int, str], int] = {}
    latest: dict[str, tuple[int, str]] = {}
    for message in messages:
        for call in message.tool_calls or ():
            latest[call.id] = (id(message), call.id)
            found[id(message), call.id] = 0
        if message.role == "tool" and message.tool_call_id in latest:
            found[latest[message.tool_call_id]] += 1
    return found


@given(MESSAGES, st.lists(st.integers(1, 50), max_size=4), st.integers(-5, 600), RULES)
def test_for_every_conversation(
    messages: list[Message], sources: list[int], budget: int, rules: ContextBody
) -> None:
    found = fitted(messages, budget, rules, tuple(sources))
    before = sum(map(size, messages)) + sum(sources)

    # It is counted right.
    assert sum(map(size, found.messages)) + sum(sources[: found.sources]) == found.tokens
    assert before == found.tokens + found.dropped_tokens
    # What fits is untouched.
    if before <= budget:
        assert (messages, len(sources), {}) == (found.messages, found.sources, found.dropped)
    # Nothing goes that was not listed.
    assert set(found.dropped) <= set(rules.drop_first or ("ToolOutput", "Evidence", "History"))
    # Order is kept, and the system's messages, the last question and what follows it.
    left = iter(messages)
    for message in found.messages:
        assert any(
            message is other or (LEFT_OUT, other.role) == (message.text, "tool") for other in left
        )
    kept = [message for message in found.messages if message.role in SYSTEM]
    assert [message for message in messages if message.role in SYSTEM] == kept
    users = [message for message in messages if message.role == "user"]
    for question in users[-(rules.keep_turns or 1) :]:
        assert any(message is question for message in found.messages)
    # Every call that is left has the results that it had.
    assert results(found.messages).items() <= results(messages).items()


@given(MESSAGES, st.integers(0, 600))
def test_no_more_is_left_out_than_is_needed(messages: list[Message], budget: int) -> None:
    """Of one kind: one part less would not do."""
    kinds: tuple[Droppable, ...] = ("History",)
    found = fitted(messages, budget, ContextBody(truncate=True, drop_first=kinds))
    if (dropped := found.dropped.get("History", 0)) > 0:
        again = fitted(messages, found.tokens, ContextBody(truncate=True, drop_first=kinds))
        assert dropped == again.dropped["History"]
