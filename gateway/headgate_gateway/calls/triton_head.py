"""The JSON head of what Triton's `infer` answers."""

from typing import Final

import msgspec


class Parameters(msgspec.Struct):
    binary_data_size: int


class Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters


class Head(msgspec.Struct):
    outputs: list[Output]


DECODE: Final = msgspec.json.Decoder(Head).decode
