"""What is left out of a conversation that is too long, and what never is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import msgspec

from headgate_api.snapshot import ContextBody, Droppable
from headgate_gateway.edge.chat_request import Message

ORDER: Final[tuple[Droppable, ...]] = ("ToolOutput", "Evidence", "History")
LEFT_OUT: Final = "[This output was left out: the conversation is too long.]"
SYSTEM: Final = frozenset({"system", "developer"})


@dataclass(slots=True)
class Fitted:
    """A conversation, and what is not in it any more."""

    messages: list[Message]
    sources: int
    """The first so many sources of the evidence."""
    tokens: int = 0
    """Of messages and evidence, if they were counted."""
    dropped: dict[Droppable, int] = field(default_factory=dict)
    """Tool outputs, sources and turns that were left out."""
    dropped_tokens: int = 0
    capped: int = 0
    """Sources that were cut."""

    def told(self) -> bytes:
        """Say it in a header.

        >>> Fitted([], 0, dropped={"ToolOutput": 2, "History": 1}, dropped_tokens=310).told()
        b'truncated; dropped=ToolOutput:2,History:1; dropped_tokens=310'
        """
        parts = ["truncated"]
        if self.dropped:
            kinds = ",".join(f"{kind}:{number}" for kind, number in self.dropped.items())
            parts += [f"dropped={kinds}", f"dropped_tokens={self.dropped_tokens}"]
        if self.capped:
            parts.append(f"capped={self.capped}")
        return "; ".join(parts).encode()


def fit(
    messages: Sequence[Message],
    sizes: Sequence[int],
    sources: Sequence[int],
    *,
    budget: int,
    rules: ContextBody,
    count: Callable[[Message], int],
) -> Fitted:
    """Leave out as little as brings a conversation down to `budget` tokens, if anything does.

    What is never left out: the messages of the system, the user's last message and what follows it,
    the outputs that the model has not answered to, and the last `rules.keep_turns` turns. Of an old
    output, in whatever turn, the message stays without its text, so that every call keeps its
    result.

    Args:
        messages: the conversation.
        sizes: tokens of each message.
        sources: tokens of each source of its evidence; the last ones are left out first.
        budget: tokens for all of it.
        rules: what may be left out, and in which order.
        count: counts the tokens of a message that replaces another.
    """
    left, found = list(sizes), Fitted(list(messages), len(sources), sum(sizes) + sum(sources))
    for kind in rules.drop_first or ORDER:
        match kind:
            case "ToolOutput":
                _drop_outputs(found, left, budget, count)
            case "Evidence":
                _drop_sources(found, sources, budget)
            case "History":
                turns = droppable_turns(messages, rules.keep_turns or 1)
                _drop_turns(found, turns, left, budget)
    if "History" in found.dropped:
        found.messages = [message for message in found.messages if message is not _GONE]
    return found


_GONE: Final = Message(role="system")
"""Stands in the place of a message that was left out, until all was."""


def droppable_turns(messages: Sequence[Message], keep: int) -> list[list[int]]:
    """List the turns that may be left out, oldest first, as indices of their messages.

    A turn begins with a message of the user, but not between a call and its result. Messages of
    the system belong to none.
    """
    starts = _starts(messages)
    if len(starts) < keep:
        return []
    borders = [0, *starts[: len(starts) - keep + 1]]
    turns = [
        [index for index in range(begin, end) if messages[index].role not in SYSTEM]
        for begin, end in pairwise(borders)
    ]
    return [turn for turn in turns if turn]


def _starts(messages: Sequence[Message]) -> list[int]:
    """List where turns begin."""
    called: dict[str, int] = {}  # where each call was made last
    last_result: dict[int, int] = {}  # of the calls of a message
    for index, message in enumerate(messages):
        for call in message.tool_calls or ():
            called[call.id] = index
        if message.role == "tool" and (at := called.get(message.tool_call_id or "")) is not None:
            last_result[at] = index
    starts, results_to = [], -1
    for index, message in enumerate(messages):
        if message.role == "user" and index > results_to:
            starts.append(index)
        results_to = max(results_to, last_result.get(index, -1))
    return starts


def _drop_outputs(
    found: Fitted, sizes: list[int], budget: int, count: Callable[[Message], int]
) -> None:
    unanswered = _last_assistant(found.messages)
    for index, message in enumerate(found.messages[:unanswered]):
        if found.tokens <= budget:
            return
        if message.role == "tool":
            shorter = msgspec.structs.replace(message, content=LEFT_OUT)
            if (gained := sizes[index] - count(shorter)) > 0:
                found.messages[index], sizes[index] = shorter, sizes[index] - gained
                _dropped(found, "ToolOutput", gained)


def _drop_sources(found: Fitted, sources: Sequence[int], budget: int) -> None:
    while found.sources and found.tokens > budget:
        found.sources -= 1
        _dropped(found, "Evidence", sources[found.sources])


def _drop_turns(
    found: Fitted, turns: Sequence[Sequence[int]], sizes: Sequence[int], budget: int
) -> None:
    for turn in turns:
        if found.tokens <= budget:
            return
        for index in turn:
            found.messages[index] = _GONE
        _dropped(found, "History", sum(sizes[index] for index in turn))


def _dropped(found: Fitted, kind: Droppable, tokens: int) -> None:
    found.tokens -= tokens
    found.dropped_tokens += tokens
    found.dropped[kind] = found.dropped.get(kind, 0) + 1


def _last_assistant(messages: Sequence[Message]) -> int:
    """Find the model's last message: outputs after it are what it is to answer to."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "assistant":
            return index
    return 0
