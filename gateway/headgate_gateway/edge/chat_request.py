"""`POST /v1/chat/completions`: what a client may ask."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Raw, Struct

from headgate_gateway.edge.asked import Generation, Tokens
from headgate_gateway.edge.chat_tools import NamedChoice, Tool, ToolCall

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
Nothing: TypeAlias = Annotated[list[Any], Meta(max_length=0)]
Text: TypeAlias = Annotated[list[Literal["text"]], Meta(min_length=1, max_length=1)]


class TextPart(Struct, tag="text", forbid_unknown_fields=True, gc=False):
    text: str


class RefusalPart(Struct, tag="refusal", forbid_unknown_fields=True, gc=False):
    """What an earlier answer said instead of an answer."""

    refusal: str


class Message(Struct, forbid_unknown_fields=True):
    """One turn, also as the SDK gives it back from an earlier answer."""

    role: Role
    content: str | list[TextPart | RefusalPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    annotations: list[dict[str, str | dict[str, str | int]]] | None = None
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
        return self.content if type(self.content) is str and self.content else "".join(self.parts)

    @property
    def texts(self) -> list[str]:
        """Everything in it that a person or a tool wrote, the parts also by themselves."""
        more = self.name or self.reasoning_content or self.tool_calls
        if type(self.content) is str and self.content and not more:
            return [self.content]
        parts, calls = self.parts, self.tool_calls or ()
        told = [text for call in calls for text in (call.function.name, call.function.arguments)]
        joined = [self.text] if len(parts) > 1 else []
        return [*parts, *joined, self.name or "", self.reasoning_content or "", *told]


class Evidence(Struct, forbid_unknown_fields=True):
    """A text that the client has found, for the model to rely on. It never instructs the model."""

    source: Annotated[str, Meta(min_length=1, max_length=256)]
    text: Annotated[str, Meta(min_length=1, max_length=256 * 1024)]
    time: Annotated[datetime, Meta(tz=True)] | None = None
    trust: Literal["trusted", "untrusted"] = "untrusted"


class JsonSchema(Struct, forbid_unknown_fields=True, rename={"schema_": "schema"}):
    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Raw = Raw(b"{}")
    strict: bool | None = None


class TextFormat(Struct, tag="text", forbid_unknown_fields=True):
    pass


class ObjectFormat(Struct, tag="json_object", forbid_unknown_fields=True):
    pass


class SchemaFormat(Struct, tag="json_schema", forbid_unknown_fields=True):
    json_schema: JsonSchema


class ChatRequest(Generation, kw_only=True):
    """The body. What is typed as nothing, or as one value, is refused otherwise."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Tokens | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | ObjectFormat | SchemaFormat | None = None
    # Ours; not at OpenAI.
    context: Annotated[list[Evidence], Meta(max_length=64)] | None = None
    # Labels of the caller's own: nothing depends on them.
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    # Only some runtimes have these.
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    # Known, and refused where they would matter.
    functions: Nothing | None = None
    function_call: Literal["none"] | None = None
    modalities: Text | None = None
    audio: None = None
    prediction: None = None
    verbosity: None = None
    moderation: None = None
    prompt_cache_options: None = None
    prompt_cache_retention: None = None
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None
    web_search_options: None = None

    @property
    def limit(self) -> tuple[str, int] | None:
        """Under its new name or its old one."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return None if self.max_tokens is None else ("max_tokens", self.max_tokens)

    @property
    def texts(self) -> list[str]:
        told: list[str] = []
        for message in self.messages:
            told += message.texts
        for tool in self.tools or ():
            told += tool.function.texts
        for evidence in self.context or ():
            told += (evidence.source, evidence.text)
        return told

    @property
    def schemas(self) -> Sequence[Raw]:
        if self.tools is None and self.response_format is None:
            return ()
        found = [tool.function.parameters for tool in self.tools] if self.tools else []
        if isinstance(self.response_format, SchemaFormat):
            found.append(self.response_format.json_schema.schema_)
        return found

    @property
    def special(self) -> str | None:
        if self.logprobs:
            return "logprobs"
        if self.reasoning_effort is not None:
            return "reasoning_effort"
        return "logit_bias" if self.logit_bias else None
