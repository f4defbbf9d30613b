"""What clients may ask: the fields that `trtllm-serve` knows, and no others.

It refuses a field that it does not know, and so does this: a gateway that passes on too much shows
itself here. Fields that are known and change nothing are simply there.
"""

import json
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from simulated_llm.answer import Ask
from simulated_serve import schema
from simulated_serve.parts import CALL_CLOSED, CALL_OPENED

UNLIMITED: Final = 4096
"""Tokens, where nobody says how many: the rest of the model's context."""


class StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool | None = True
    continuous_usage_stats: bool | None = False


class ResponseFormat(Struct, forbid_unknown_fields=True):
    type: str
    schema: dict[str, Any] | None = None
    json_schema: dict[str, Any] | None = None

    def guided(self, seed: str) -> str | None:
        """Write what guided decoding would let through, if it is asked for."""
        match self.type:
            case "json_schema":
                inner = (self.json_schema or {}).get("schema", self.json_schema)
                return json.dumps(schema.instance(inner or {}, seed), ensure_ascii=False)
            case "json" | "json_object":
                return json.dumps(schema.instance(self.schema or schema.ANY_OBJECT, seed))
            case _:
                return None


class Function(Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def arguments(self, seed: str) -> dict[str, Any]:
        made = schema.instance(self.parameters or schema.ANY_OBJECT, seed)
        return made if isinstance(made, dict) else {}


class Tool(Struct, forbid_unknown_fields=True):
    function: Function
    type: str = "function"


class FunctionName(Struct, forbid_unknown_fields=True):
    name: str


class NamedChoice(Struct, forbid_unknown_fields=True):
    function: FunctionName
    type: str = "function"


class Question(Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields of both endpoints."""

    model: str
    max_tokens: int | None = None
    n: int = 1
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int = 0
    min_p: float = 0.0
    min_tokens: int = 0
    frequency_penalty: float | None = 0.0
    presence_penalty: float | None = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[str, float] | None = None
    ignore_eos: bool = False
    user: str | None = None
    cache_salt: str | None = None

    def text(self) -> str:
        raise NotImplementedError

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    @property
    def counted(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def forced(self) -> str | None:
        """Write what the model can only say, if its freedom is limited so far."""
        return self.response_format.guided(self.text()) if self.response_format else None

    def ask(self) -> Ask:
        """Say what is wanted of the model.

        Raises:
            ValueError: the request makes no sense, or is more than the simulation can do.
        """
        if self.n != 1:
            raise ValueError(f"n is {self.n}; the simulation gives one choice")
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Ask(
            prompt=self.text(),
            max_tokens=UNLIMITED if self.limit is None else self.limit,
            seed=self.seed or 0,
            stops=stops,
            forced=self.forced(),
        )


class Completion(Question, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/completions`."""

    prompt: str | list[str]
    logprobs: int | None = None

    def text(self) -> str:
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if len(prompts) != 1:
            raise ValueError(f"{len(prompts)} prompts; the simulation takes one")
        return prompts[0]


class Chat(Question, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    tools: list[Tool] | None = None
    tool_choice: NamedChoice | str | None = "none"
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def text(self) -> str:
        """Write the prompt in ChatML, as Headgate's standard template does for a Triton."""
        turns = (f"<|im_start|>{m['role']}\n{_content(m)}<|im_end|>\n" for m in self.messages)
        return f"{''.join(turns)}<|im_start|>assistant\n"

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_tokens is None else self.max_tokens

    @property
    def named(self) -> str | None:
        """The tool whose arguments are all of the answer."""
        choice = self.tool_choice
        return choice.function.name if isinstance(choice, NamedChoice) else None

    def forced(self) -> str | None:
        offered = {tool.function.name: tool.function for tool in self.tools or ()}
        if self.named is not None:
            if self.named not in offered:
                raise ValueError(f"tool_choice names {self.named}, which is not among the tools")
            return json.dumps(offered[self.named].arguments(self.text()))
        if self.tool_choice == "required" and offered:
            first = next(iter(offered.values()))
            call = {"name": first.name, "arguments": first.arguments(self.text())}
            return f"{CALL_OPENED}\n{json.dumps(call)}\n{CALL_CLOSED}"
        return super().forced()


Asked: TypeAlias = Chat | Completion


def read(kind: type[Asked], body: bytes) -> Asked:
    """Read a request.

    Raises:
        ValueError: it is not JSON, or has a field that is not known or of a wrong type.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def _content(message: dict[str, Any]) -> str:
    match message.get("content"):
        case str(text):
            return text
        case list(parts):
            return "".join(part.get("text", "") for part in parts)
        case _:
            return ""
