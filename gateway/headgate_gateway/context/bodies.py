"""A client's body with other fields in it, for model servers that read it themselves."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from headgate_gateway.edge.chat_request import Message

_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_ITEMS: Final = msgspec.json.Decoder(list[Raw]).decode
_encode: Final = msgspec.json.encode


def with_fields(body: bytes, fields: Mapping[str, Any]) -> bytes:
    """Replace fields, or add them; None takes one away. All others stay as they are."""
    told: dict[str, Any] = {**_FIELDS(body), **fields}
    return _encode({name: value for name, value in told.items() if value is not None})


def with_messages(body: bytes, before: Sequence[Message], after: Sequence[Message]) -> bytes:
    """Replace the messages. Those of `before` that are left stay as the client wrote them."""
    written = _ITEMS(_FIELDS(body)["messages"])
    known = {id(message): raw for message, raw in zip(before, written, strict=True)}
    messages = [known.get(id(message)) or _written(message) for message in after]
    return with_fields(body, {"messages": messages, "context": None})


def _written(message: Message) -> dict[str, Any]:
    """Write down a message of ours, or one that was changed."""
    told = msgspec.to_builtins(message)
    return {name: value for name, value in told.items() if value is not None}
