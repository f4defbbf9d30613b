"""What is read of a token's log probability."""

from typing import Final

import msgspec


class LogProb(msgspec.Struct, gc=False):
    token: str = ""


decode_logprob: Final = msgspec.json.Decoder(LogProb).decode
