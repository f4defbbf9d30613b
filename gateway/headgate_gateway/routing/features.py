"""What rules may know of a request. A word is found when a rule first reads it, and then kept.

A client can only forge what is its own to say: the edge strips our headers, and a rule sees no
other header than those that its policy lists.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from headgate_gateway.context.counting import estimate_input
from headgate_gateway.edge.asked import Asked, Generation
from headgate_gateway.edge.chat_request import ChatRequest, ObjectFormat, SchemaFormat
from headgate_gateway.request import Request
from headgate_gateway.routing.guesses import CODE_CHARACTERS, code_share, language

LONGEST_HEADER: Final = 8192
LONGEST_NAME: Final = 256
"""Of what a rule may read of a client's texts, in characters."""
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Surroundings:
    """What rules may know that is no request's.

    Args:
        region: where this gateway is.
        load: tells the share of this gateway's request slots that are in use.
    """

    def __init__(self, region: str, load: Callable[[], float]) -> None:
        self.region = region
        self.load = load


class Features:
    """The words of one request, as attributes: `request.inputTokens` is `request_inputTokens`."""

    def __init__(self, request: Request, around: Surroundings) -> None:
        self._request: Any = request
        self._around = around
        self._read: dict[str, object] = {}

    def __getattr__(self, word: str) -> Any:
        """Find a word, once."""
        if word not in self._read:
            self._read[word] = WORDS[word](self._request, self._around)
        return self._read[word]

    def forget(self) -> None:
        """Know only what was read: a request keeps its words by its plan, and they kept it."""
        self._request = None

    def read(self) -> Mapping[str, object]:
        """Return the words that were read, by name."""
        return {word.replace("_", "."): value for word, value in self._read.items()}


def user(request: Request) -> str:
    """Name the user: whose the key is, or whom the client names. Empty: nobody."""
    return request.credential.key.user or request.asked.user or ""


def last_question(asked: Asked) -> str:
    """Return what the user said last."""
    if not isinstance(asked, ChatRequest):
        return "".join(asked.texts[:1])
    users = (message.text for message in reversed(asked.messages) if message.role == "user")
    return next(users, "")


def sources(asked: Asked) -> tuple[str, ...]:
    """List the names of the request's evidence, in its order."""
    return tuple(piece.source for piece in getattr(asked, "context", None) or ())


def tools(asked: Asked) -> tuple[str, ...]:
    """List the names of the tools that the model may call."""
    if not isinstance(asked, ChatRequest) or asked.tool_choice == "none":
        return ()
    return tuple(tool.function.name for tool in asked.tools or ())


def _format(asked: Asked) -> str:
    match asked:
        case ChatRequest(response_format=ObjectFormat()):
            return "json_object"
        case ChatRequest(response_format=SchemaFormat()):
            return "json_schema"
        case _:
            return "text"


def _turns(asked: Asked) -> int:
    if isinstance(asked, ChatRequest):
        return sum(message.role == "user" for message in asked.messages)
    return 1


def _code_share(asked: Asked) -> float:
    """Of the newest messages: they are what the request is about."""
    texts: list[str] = []
    size = 0
    for text in reversed(asked.texts):
        texts.append(text)
        size += len(text)
        if size >= CODE_CHARACTERS:
            break
    return code_share("\n".join(reversed(texts)))


def _headers(request: Request) -> Mapping[str, str]:
    head = request.head
    return {
        name: _decoded(value)[:LONGEST_HEADER]
        for name in request.policy.match_headers
        if (value := head.get(name.encode())) is not None
    }


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


WORDS: Final[Mapping[str, Callable[[Request, Surroundings], object]]] = {
    "request_model": lambda request, _: request.asked.model,
    "request_inputTokens": lambda request, _: estimate_input(request.asked),
    "request_turns": lambda request, _: _turns(request.asked),
    "request_language": lambda request, _: language(last_question(request.asked)),
    "request_format": lambda request, _: _format(request.asked),
    "request_stream": lambda request, _: request.asked.streams,
    "request_hasTools": lambda request, _: bool(tools(request.asked)),
    "request_tools": lambda request, _: tools(request.asked),
    "request_codeShare": lambda request, _: _code_share(request.asked),
    "request_sources": lambda request, _: sources(request.asked),
    "request_temperature": lambda request, _: (
        request.asked.temperature if isinstance(request.asked, Generation) else None
    ),
    "request_headers": lambda request, _: _headers(request),
    "tenant_name": lambda request, _: request.credential.tenant.name,
    "tenant_priority": lambda request, _: request.credential.tenant.body.priority,
    "tenant_budgetUsed": lambda _, __: None,
    "user_name": lambda request, _: user(request)[:LONGEST_NAME],
    "user_tier": lambda request, _: request.credential.key.tier or "",
    "risk_tier": lambda _, __: None,
    "region_name": lambda _, around: around.region,
    "region_mode": lambda _, __: "Full",
    "region_load": lambda _, around: around.load(),
    "now_hour": lambda request, _: datetime.fromtimestamp(request.now, UTC).hour,
    "now_weekday": lambda request, _: DAYS[datetime.fromtimestamp(request.now, UTC).weekday()],
}
"""How each word is found, by its attribute."""
