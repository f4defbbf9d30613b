"""The words that rules may use, as data: docs/cel.md has the same table, and a test compares.

The gateway hands over an object with an attribute for each referenced word, named like the word
with `_` for each dot: `request.inputTokens` is `features.request_inputTokens`.
"""

from dataclasses import dataclass
from typing import Final

from headgate_policy.cel.types import BOOL, DOUBLE, INT, MAP, STRING, Type, list_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    name: str
    type: Type
    meaning: str
    longest: int = 256  # characters of a string, or of each in a list or map
    most: int = 128  # items of a list or map
    least: float | None = None  # of a number
    greatest: float | None = None
    values: tuple[str, ...] = ()  # of a string, or of each in a list: it is no other
    optional: bool = False  # may be None: reading it is then an error, and has() is false
    measured: bool = True  # False: as yet None for all if it may be, else the first of `values`
    private: bool = False  # its text is told to nobody

    @property
    def attribute(self) -> str:
        return self.name.replace(".", "_")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The words for one field, and what one evaluation of a rule may cost."""

    field: str
    words: dict[str, Word]
    budget: int  # steps, see cost.py

    @classmethod
    def of(cls, field: str, budget: int, *words: Word) -> "Table":
        return cls(field, {word.name: word for word in words}, budget)


def _flag(name: str, meaning: str) -> Word:
    return Word(name=name, type=BOOL, meaning=meaning)


def _count(name: str, meaning: str, greatest: int | None = None) -> Word:
    return Word(name=name, type=INT, meaning=meaning, least=0, greatest=greatest)


WHEN: Final = Table.of(
    "when",
    10_000,
    Word(
        name="request.model", type=STRING, longest=128, meaning="the `model` that the client named"
    ),
    _count("request.inputTokens", "tokens that the request brings, estimated"),
    _count("request.turns", "messages with the role `user`"),
    Word(
        name="request.language",
        type=STRING,
        longest=35,
        meaning="that of the last question, a guess: `en`, `de`, ... or `und`",
    ),
    Word(
        name="request.format",
        type=STRING,
        values=("text", "json_object", "json_schema"),
        meaning="what `response_format` asks for",
    ),
    _flag("request.stream", "whether a stream is asked for"),
    _flag("request.hasTools", "whether the model may call a tool"),
    Word(
        name="request.tools",
        type=list_of(STRING),
        longest=64,
        meaning="names of the tools that the model may call",
    ),
    Word(
        name="request.codeShare",
        type=DOUBLE,
        least=0,
        greatest=1,
        meaning="share of the newest messages that is code, a guess",
    ),
    Word(
        name="request.sources",
        type=list_of(STRING),
        meaning="names of the sources that the request brings in `context`",
    ),
    Word(
        name="request.temperature",
        type=DOUBLE,
        least=0,
        greatest=2,
        optional=True,
        meaning="what the client asks for",
    ),
    Word(
        name="request.headers",
        type=MAP,
        longest=8192,
        most=16,
        meaning="headers that `matchHeaders` lists, by lower-case name",
    ),
    Word(
        name="tenant.name",
        type=STRING,
        longest=63,
        meaning="the tenant's name",
    ),
    Word(
        name="tenant.priority",
        type=STRING,
        values=("Critical", "Standard", "Sheddable"),
        meaning="the tenant's priority",
    ),
    Word(
        name="tenant.budgetUsed",
        type=DOUBLE,
        least=0,
        optional=True,
        measured=False,
        meaning="share of the tenant's budget that is used",
    ),
    Word(
        name="user.name",
        type=STRING,
        meaning="the user, or empty",
    ),
    Word(
        name="user.tier",
        type=STRING,
        longest=32,
        meaning="the tier of the user's key, or empty",
    ),
    Word(
        name="risk.tier",
        type=STRING,
        values=("Low", "Medium", "High"),
        optional=True,
        measured=False,
        meaning="the risk that the safety gates see in the request",
    ),
    Word(
        name="region.name",
        type=STRING,
        longest=63,
        meaning="the region of this gateway",
    ),
    Word(
        name="region.mode",
        type=STRING,
        values=("Full", "Reduced", "Safe"),
        measured=False,
        meaning="the service mode in force",
    ),
    Word(
        name="region.load",
        type=DOUBLE,
        least=0,
        greatest=1,
        meaning="share of this gateway's request slots in use",
    ),
    _count("now.hour", "the hour, UTC", 23),
    Word(
        name="now.weekday",
        type=STRING,
        values=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
        meaning="the day, UTC",
    ),
)

ACCEPT: Final = Table.of(
    "acceptWhen",
    2_000_000,
    Word(
        name="answer.text",
        type=STRING,
        longest=2**20,
        private=True,
        meaning="the text of the answer",
    ),
    Word(
        name="answer.finishReason",
        type=STRING,
        values=("stop", "length", "tool_calls", "content_filter"),
        meaning="why the answer ended",
    ),
    _count("answer.outputTokens", "tokens of the answer"),
    _flag(
        "answer.schemaValid",
        "whether the answer fits the schema that `response_format` gives; true without one",
    ),
    _flag(
        "answer.toolCallsValid",
        "whether all tool calls name an offered tool and fit its parameters",
    ),
    _flag("answer.refused", "whether the model refused, a guess from how the answer begins"),
    Word(
        name="answer.logprob.mean",
        type=DOUBLE,
        greatest=0,
        optional=True,
        meaning="mean log probability of the tokens, where the model server tells it",
    ),
    Word(
        name="answer.logprob.min",
        type=DOUBLE,
        greatest=0,
        optional=True,
        meaning="log probability of the least likely token, where the model server tells it",
    ),
    _count("answer.citations.total", "citations in the answer"),
    _count("answer.citations.resolved", "citations that name evidence of the request"),
    Word(
        name="answer.verifier.score",
        type=DOUBLE,
        least=0,
        greatest=1,
        optional=True,
        meaning="what the route's `verifier` gives the answer",
    ),
)

TABLES: Final = (WHEN, ACCEPT)
