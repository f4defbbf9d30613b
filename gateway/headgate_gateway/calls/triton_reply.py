"""What one event of Triton's `generate_stream` says, of either runtime."""

from typing import Final

import msgspec

from headgate_gateway.calls.events import Count


class Reply(msgspec.Struct, gc=False):
    """One event. Outputs that we do not use are skipped by the decoder."""

    text_output: str = ""
    finish_reason: str | None = None
    num_input_tokens: Count | None = None
    num_output_tokens: Count | None = None
    cum_log_probs: object = None  # one number, but of a model that is anybody's
    error: str | None = None


class Drafts(msgspec.Struct):
    """What the last event says of guessing. Its numbers are texts."""

    total_draft_tokens: Count
    total_accepted_draft_tokens: Count


DECODE: Final = msgspec.json.Decoder(Reply).decode
DECODE_DRAFTS: Final = msgspec.json.Decoder(Drafts, strict=False).decode
