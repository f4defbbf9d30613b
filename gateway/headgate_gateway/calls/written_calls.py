"""Calls of tools as models write them down: JSON, alone or in a list."""

from typing import Final

import msgspec


class WrittenCall(msgspec.Struct, gc=False):
    name: str
    arguments: msgspec.Raw = msgspec.Raw()
    parameters: msgspec.Raw = msgspec.Raw()


DECODE_CALL: Final = msgspec.json.Decoder(WrittenCall).decode
DECODE_CALLS: Final = msgspec.json.Decoder(list[WrittenCall]).decode
