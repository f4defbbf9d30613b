"""What is wrong with what a client asks of `POST /v1/chat/completions`."""

from collections.abc import Sequence
from typing import Final, get_args

import msgspec

from headgate_gateway.edge.body_reader import BodyReader, missing, stray_options, unsupported
from headgate_gateway.edge.chat_request import ChatRequest, Role
from headgate_gateway.edge.chat_tools import NamedChoice, Tool
from headgate_gateway.refusals import Code, Refusal

NARROW: Final = {
    "n": "1",
    "functions": "[]",
    "function_call": '"none"',
    "modalities": '["text"]',
    "audio": "",
    "prediction": "",
    "verbosity": "",
    "moderation": "",
    "prompt_cache_options": "",
    "prompt_cache_retention": "",
    "store": "false",
    "service_tier": '"auto" or "default"',
    "web_search_options": "",
}
"""Parameters of which not everything is supported, and the values that are."""
_WORDS: Final = {
    ".role": get_args(Role),
    ".content[": ("text", "refusal"),
    ".trust": ("trusted", "untrusted"),
    "response_format": ("text", "json_object", "json_schema"),
    "tool_choice": ("none", "auto", "required", "a function"),
    "tool": ("function",),
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
}
_READER: Final = BodyReader(NARROW, _WORDS)
_DECODE: Final = msgspec.json.Decoder(ChatRequest).decode


def read_chat_request(body: bytes) -> ChatRequest | Refusal:
    """Read and check a body."""
    chat = _READER.read(_DECODE, body)
    if isinstance(chat, Refusal):
        return chat
    return stray_options(chat) or _wrong_together(chat) or _incomplete(chat) or chat


def _wrong_together(chat: ChatRequest) -> Refusal | None:
    if chat.store:
        return unsupported("store", NARROW["store"])
    if chat.top_logprobs and not chat.logprobs:
        sentence = "'top_logprobs' is allowed only together with 'logprobs': true."
        return Refusal(Code.INVALID_VALUE, 400, sentence, "top_logprobs")
    if chat.tools or chat.tool_choice is not None:
        return _wrong_tools(chat.tools or (), chat.tool_choice)
    return None


def _incomplete(chat: ChatRequest) -> Refusal | None:
    """Only an assistant may say nothing, in an answer that called tools or refused."""
    for index, message in enumerate(chat.messages):
        if message.content is None and message.role != "assistant":
            return missing(f"messages[{index}].content")
        if message.role == "tool" and message.tool_call_id is None:
            return missing(f"messages[{index}].tool_call_id")
    return None


def _wrong_tools(tools: Sequence[Tool], choice: str | NamedChoice | None) -> Refusal | None:
    """Find what is wrong with tools and the choice among them, taken together."""
    names = [tool.function.name for tool in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            param = f"tools[{index}].function.name"
            return Refusal(Code.INVALID_VALUE, 400, "Two tools have the same name.", param)
    if choice is None or choice == "none":
        return None
    if not names:
        sentence = "'tool_choice' is allowed only together with 'tools'."
        return Refusal(Code.INVALID_VALUE, 400, sentence, "tool_choice")
    if isinstance(choice, NamedChoice) and choice.function.name not in names:
        sentence = "'tool_choice' names a function that is not among 'tools'."
        return Refusal(Code.INVALID_VALUE, 400, sentence, "tool_choice")
    return None
