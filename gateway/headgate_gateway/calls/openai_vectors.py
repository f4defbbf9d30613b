"""What an OpenAI server's `/v1/embeddings` answers, as far as it matters here."""

from typing import Final

import msgspec

from headgate_gateway.calls.events import Count


class Row(msgspec.Struct):
    index: int
    embedding: str


class Counts(msgspec.Struct):
    prompt_tokens: Count = 0


class Answer(msgspec.Struct):
    data: list[Row]
    usage: Counts


DECODE: Final = msgspec.json.Decoder(Answer).decode
