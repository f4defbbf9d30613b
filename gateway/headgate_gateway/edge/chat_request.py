"""`POST /v1/chat/completions`: what a client may ask, and what is wrong with what it asked.

Nothing is ignored in silence: a parameter that changes the answer and that we do not act on is
refused by name, unless its value asks for what we do anyway.
"""

import re
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

from headgate_gateway.refusals import Code, Refusal

Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
Tokens: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
StopWord: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class TextPart(Struct, tag="text", forbid_unknown_fields=True, gc=False):
    text: str


class RefusalPart(Struct, tag="refusal", forbid_unknown_fields=True, gc=False):
    """What an earlier answer said instead of an answer."""

    refusal: str


class Function(Struct, forbid_unknown_fields=True, gc=False):
    name: str
    arguments: str


class ToolCall(Struct, forbid_unknown_fields=True):
    id: str
    function: Function
    type: Literal["function"] = "function"


class Message(Struct, forbid_unknown_fields=True):
    """One turn, also as the SDK gives it back from an earlier answer."""

    role: Role
    content: str | list[TextPart | RefusalPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    annotations: Any = None
    audio: None = None
    function_call: None = None

    @property
    def parts(self) -> list[str]:
        """The content's pieces of text."""
        if isinstance(self.content, list):
            return [p.text if isinstance(p, TextPart) else p.refusal for p in self.content]
        return [self.content or self.refusal or ""]

    @property
    def text(self) -> str:
        """The content as the model reads it."""
        return "".join(self.parts)

    @property
    def texts(self) -> list[str]:
        """Everything in it that a person or a tool wrote, the parts also by themselves."""
        parts, calls = self.parts, self.tool_calls or ()
        told = [text for call in calls for text in (call.function.name, call.function.arguments)]
        joined = [self.text] if len(parts) > 1 else []
        return [*parts, *joined, self.name or "", *told]


class StreamOptions(Struct, forbid_unknown_fields=True, gc=False):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Struct, forbid_unknown_fields=True):
    """The body. Fields behind `user` are known and refused, but for harmless values."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopWord | Annotated[list[StopWord], Meta(max_length=4)] | None = None
    # Labels of the caller's own: nothing depends on them.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    # Known, and refused where they would matter.
    n: Any = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    store: Any = None
    service_tier: Any = None
    web_search_options: Any = None

    @property
    def limit(self) -> int | None:
        """The most tokens to generate, under its new name or its old one."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stop_words(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


HARMLESS: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "web_search_options": (),
}
"""Values besides null that ask for nothing that we do not do."""

LONGEST_WORDS: Final = 128
"""Characters of a finding or of a client's own field name that an answer repeats."""
_DECODE: Final = msgspec.json.Decoder(ChatRequest).decode
_PATH: Final = re.compile(r" - at `\$\.?(.*)`$")
_FIELD: Final = re.compile(r"(?:required|unknown) field `([^`]*)`")


def read_chat_request(body: bytes) -> ChatRequest | Refusal:
    """Read and check a body."""
    try:
        chat = _DECODE(body)
    except msgspec.ValidationError as error:
        return _invalid(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        sentence = "The body is not valid JSON in UTF-8."
        return Refusal(Code.INVALID_JSON, 400, sentence)
    return _unsupported(chat) or _incomplete(chat) or chat


def _unsupported(chat: ChatRequest) -> Refusal | None:
    for name, harmless in HARMLESS.items():
        value = getattr(chat, name)
        if value is None or any(value == h and type(value) is type(h) for h in harmless):
            continue
        if harmless:
            allowed = msgspec.json.encode(harmless[0]).decode()
            sentence = f"'{name}' is supported only as {allowed}."
            return Refusal(Code.UNSUPPORTED_VALUE, 400, sentence, name)
        return Refusal(
            Code.UNSUPPORTED_PARAMETER, 400, f"'{name}' is not supported by this model.", name
        )
    if chat.stream_options is not None and not chat.stream:
        sentence = "'stream_options' is allowed only together with 'stream': true."
        return Refusal(Code.INVALID_VALUE, 400, sentence, "stream_options")
    return None


def _incomplete(chat: ChatRequest) -> Refusal | None:
    """Only an assistant may say nothing, in an answer that called tools or refused."""
    for index, message in enumerate(chat.messages):
        missing = None
        if message.content is None and message.role != "assistant":
            missing = f"messages[{index}].content"
        elif message.role == "tool" and message.tool_call_id is None:
            missing = f"messages[{index}].tool_call_id"
        if missing is not None:
            return _missing(missing)
    return None


def _missing(param: str) -> Refusal:
    return Refusal(Code.MISSING_PARAMETER, 400, f"Missing required parameter: '{param}'.", param)


def _invalid(found: str) -> Refusal:
    """Turn the decoder's finding into ours: the field, what is wrong, and what would be right.

    >>> _invalid("Expected `str`, got `int` - at `$.messages[0].content`").param
    'messages[0].content'
    """
    path = _PATH.search(found)
    where = path.group(1) if path is not None else ""
    what = _PATH.sub("", found)
    field = _FIELD.search(what)
    if field is None:
        what = what[:LONGEST_WORDS]
        if what.startswith("Invalid"):
            what += f"; use {' or '.join(_words(where))}"
        named = f"'{where}': {what}." if where else f"{what}."
        return Refusal(Code.INVALID_VALUE, 400, named, where or None)
    name = field.group(1)[:LONGEST_WORDS]
    param = f"{where}.{name}" if where else name
    if "unknown" in what:
        return Refusal(Code.UNKNOWN_PARAMETER, 400, f"Unknown parameter: '{param}'.", param)
    return _missing(param)


def _words(where: str) -> tuple[str, ...]:
    """List the words that this field takes."""
    if where.endswith(".role"):
        return get_args(Role)
    return ("text", "refusal") if ".content[" in where else ("function",)
