"""What a rule may know of an answer, found when it is first read; and what was wrong with one."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.events import NO_JSON, End, Event, Text, ToolCall
from headgate_gateway.calls.filters import is_object, valid
from headgate_gateway.calls.schemas import SchemaInvalid, compiled, fits, quick
from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.chat_request import ChatRequest
from headgate_gateway.routing.features import sources
from headgate_policy.cel import ACCEPT

READ: Final = 2**20
"""Characters of an answer that a rule reads."""
LONG: Final = 32 * 1024
"""Characters of an answer that is judged beside the event loop."""
BEGINNING: Final = 200
"""Characters in which a refusal shows."""
PRIVATE: Final = frozenset(word.attribute for word in ACCEPT.words.values() if word.private)
_REFUSAL: Final = re.compile(
    r"\W*(?:"
    r"(?:(?:i'?m|i am) (?:very |so |really )?sorry|sorry|unfortunately|i apologi[sz]e)\b.{0,80}?"
    r"(?:\b(?:cannot|can'?t|unable|not able|won'?t|must decline|not comfortable)\b)"
    r"|(?:i|we) (?:cannot|can'?t|can not|won'?t|will not|(?:must|have to) decline)\b"
    r".{0,40}?\b(?:help|assist|answer|provide|comply|do that|fulfill|support|discuss|share|create)"
    r"|(?:i'?m|i am) (?:unable|not able|not comfortable)\b"
    r"|as an? (?:ai|language model)\b.{0,80}?\b(?:cannot|can'?t|unable|not able)"
    r"|(?:es )?tut mir (?:sehr )?leid\b.{0,80}?\b(?:kann|darf|nicht)"
    r"|(?:dabei|damit|hierbei) kann ich (?:ihnen |dir )?(?:leider )?nicht helfen"
    r"|(?:je suis )?désolée?\b.{0,80}?\bne (?:peux|puis)"
    r"|je ne (?:peux|puis) pas\b"
    r"|lo siento\b.{0,80}?\bno (?:puedo|me es posible)"
    r")",
    re.IGNORECASE | re.DOTALL,
)
_FENCED: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_MARK: Final = re.compile(r"\[([^\[\]\n]{1,256})\](?![(\[:])")
_NUMBERS: Final = re.compile(r"\d{1,4}(?:\s*[,;]\s*\d{1,4})*")
_NAME: Final = re.compile(r"[^\s./:#]*[./:#]\S*")


class _Token(msgspec.Struct):
    """One token of an answer, as OpenAI's servers tell it."""

    logprob: float


_TOKEN: Final = msgspec.json.Decoder(_Token).decode


class Answer:
    """The words of one answer, as attributes: `answer.finishReason` is `answer_finishReason`.

    Args:
        events: of the answer, in order.
        end: its end.
        asked: what the client asked.
        task: what the model server was asked.
    """

    def __init__(self, events: Sequence[Event], end: End, asked: Asked, task: Task) -> None:
        self._events = events
        self._end = end
        self._asked = asked
        self._task = task
        self.text = "".join(event.text for event in events if isinstance(event, Text))
        self.wants_score = False
        """A rule has read `answer.verifier.score`, and nobody had asked for it."""

    def read(self) -> Mapping[str, object]:
        """Return the words that were read, by name, without texts."""
        return {
            word.replace("_", "."): value
            for word, value in vars(self).items()
            if word.startswith("answer_") and word not in PRIVATE
        }

    def scored(self, score: float | None) -> None:
        """Take the verifier's score; None: it gave none."""
        self.wants_score = False
        self.answer_verifier_score = score

    @property
    def slow(self) -> bool:
        """Whether judging it may take too long for the event loop."""
        length = len(self.text) + sum(len(call.arguments) for call in self._calls)
        return length > LONG or not all(map(quick, self._offered.values()))

    # The words, each found when it is first read

    @cached_property
    def answer_text(self) -> str:
        return self.text[:READ]

    @cached_property
    def answer_finishReason(self) -> str:  # noqa: N802
        return self._end.finish_reason

    @cached_property
    def answer_outputTokens(self) -> int:  # noqa: N802
        return self._end.usage.output_tokens

    @cached_property
    def answer_schemaValid(self) -> bool:  # noqa: N802
        form = self._task.form
        if form is None or form.check is None:
            return True
        return (bool(self._calls) and not self.text) or valid(self.text, form.check)

    @cached_property
    def answer_toolCallsValid(self) -> bool:  # noqa: N802
        offered = self._offered
        return all(
            call.name in offered and _fits(call.arguments, offered[call.name])
            for call in self._calls
        )

    @cached_property
    def answer_refused(self) -> bool:
        return self._end.finish_reason == "content_filter" or refuses(self.text)

    @cached_property
    def answer_logprob_mean(self) -> float | None:
        if found := self._logprobs:
            return sum(found) / len(found)
        whole, tokens = self._end.logprob, self._end.usage.output_tokens
        return min(0.0, whole / tokens) if whole is not None and tokens else None

    @cached_property
    def answer_logprob_min(self) -> float | None:
        return min(self._logprobs, default=None)

    @cached_property
    def answer_citations_total(self) -> int:
        return self._citations[0]

    @cached_property
    def answer_citations_resolved(self) -> int:
        return self._citations[1]

    @cached_property
    def answer_verifier_score(self) -> float | None:
        self.wants_score = True
        return None

    @cached_property
    def _offered(self) -> Mapping[str, bytes]:
        """The tools of the request: the schema of the parameters of each, by its name."""
        tools = self._asked.tools if isinstance(self._asked, ChatRequest) else None
        return {tool.function.name: bytes(tool.function.parameters) for tool in tools or ()}

    @cached_property
    def _calls(self) -> list[ToolCall]:
        return [event for event in self._events if isinstance(event, ToolCall)]

    @cached_property
    def _citations(self) -> tuple[int, int]:
        given = sources(self._asked)[: self._task.sources]  # others were left out
        return citations(self.answer_text, given)

    @cached_property
    def _logprobs(self) -> list[float]:
        try:
            return [
                min(0.0, _TOKEN(token).logprob)
                for event in self._events
                if isinstance(event, Text)
                for token in event.logprobs
            ]
        except NO_JSON:
            return []


def refuses(text: str) -> bool:
    """Guess from how an answer begins whether the model refused. English, German, French, Spanish.

    >>> refuses("I'm sorry, but I can't help with that."), refuses("I can help with that.")
    (True, False)
    """
    return _REFUSAL.match(text[:BEGINNING].replace("\u2019", "'").lstrip()) is not None


def citations(text: str, names: Sequence[str]) -> tuple[int, int]:
    """Count the citations in an answer, and those of them that name a source of the request.

    A citation is a number in brackets, or several, which count the sources from 1; a source's
    name in brackets; or there what looks like one, with a dot, slash, colon or hash in it. Code,
    links and footnotes are none.

    >>> citations("High at noon [1], low at six [2, 7] (see [tides.txt]).", ["tides.txt", "b"])
    (4, 3)
    """
    known, total, resolved = frozenset(names), 0, 0
    for mark in _MARK.findall(_FENCED.sub(" ", text)):
        said = mark.strip()
        if said in known:
            total, resolved = total + 1, resolved + 1
        elif _NUMBERS.fullmatch(said):
            numbers = [int(number) for number in re.findall(r"\d+", said)]
            total += len(numbers)
            resolved += sum(0 < number <= len(names) for number in numbers)
        elif _NAME.fullmatch(said):
            total += 1
    return total, resolved


FLAWS: Final[Mapping[str, tuple[Any, str]]] = {
    "answer.schemaValid": (lambda value, _: value is False, "it is not in the form asked for"),
    "answer.toolCallsValid": (lambda value, _: value is False, "a call of a tool is wrong"),
    "answer.refused": (lambda value, _: value is True, "it refuses to answer"),
    "answer.finishReason": (lambda value, _: value == "length", "it was cut for its length"),
    "answer.citations.total": (lambda value, _: value == 0, "it cites none of the sources"),
    "answer.citations.resolved": (
        lambda value, words: value < words.get("answer.citations.total", value),
        "it cites sources that were not given",
    ),
}
"""What may be wrong with an answer, by the word that shows it."""


def flaws(words: Mapping[str, object]) -> list[str]:
    """Say in short what was wrong with an answer that was not accepted, as far as words show it.

    >>> flaws({"answer.refused": False, "answer.citations.total": 0})
    ['it cites none of the sources']
    """
    return [
        said for word, (wrong, said) in FLAWS.items() if word in words and wrong(words[word], words)
    ]


def _fits(arguments: str, schema: bytes) -> bool:
    try:
        validator = compiled(schema)
    except SchemaInvalid:  # the client's own, of a tool that is not strict: nothing is known of it
        return valid(arguments, is_object)
    return valid(arguments, lambda value: is_object(value) and fits(validator, value))
