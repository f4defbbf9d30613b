"""A conversation as chat templates know it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from headgate_gateway.calls.schemas import decode_flat
from headgate_gateway.edge.chat_request import Message
from headgate_gateway.edge.chat_tools import ToolCall


def plain(message: Message) -> dict[str, object]:
    """What templates know of a message. `developer` is the new word for `system`."""
    role = "system" if message.role == "developer" else message.role
    told: dict[str, object] = {"role": role, "content": message.text}
    if message.name is not None:
        told["name"] = message.name
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        told["tool_calls"] = [_call(call) for call in message.tool_calls]
    return told


def turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """What the standard template knows of messages: role and text."""
    told: list[tuple[str, str]] = []
    for message in messages:
        role, content = message.role, message.content
        text = content if type(content) is str and content else message.text
        told.append(("system" if role == "developer" else role, text))
    return told


def _call(call: ToolCall) -> dict[str, object]:
    function = {"name": call.function.name, "arguments": _arguments(call.function.arguments)}
    return {"id": call.id, "type": call.type, "function": function}


def _arguments(text: str) -> Any:
    """Templates write arguments down as JSON, so they want what the JSON says."""
    try:
        return decode_flat(text) or text
    except msgspec.DecodeError:
        return text
