"""How a model server fails, in the words that a client gets."""

import re
from typing import Final

from headgate_gateway.calls.events import Failed
from headgate_gateway.refusals import Code, Refusal

FULL: Final = ("maximum queue size", "request timeout expired", "queue is full")
"""How Triton's schedulers, TensorRT-LLM's backend and its own server say that a queue takes no
more, or held a request for too long, in lower case. The status is 503, 429 or 400, by the way that
the error took."""
LONG: Final = re.compile(r"prompt length .{0,80}exceed", re.IGNORECASE)
"""How TensorRT-LLM says that a prompt has more tokens than the model was started for: "The sum of
prompt length (101), query length (0) should not exceed max_num_tokens (100)"."""

INVALID: Final = Failed(
    Refusal(Code.UPSTREAM_INVALID, 502, "The model server sent something that is no answer.")
)
OVERRUN: Final = Failed(
    Refusal(Code.UPSTREAM_OVERRUN, 502, "The model server wrote more than it was asked for.")
)
REPORTED: Final = Failed(
    Refusal(Code.UPSTREAM_ERROR, 502, "The model server could not complete this request.")
)
TOO_LONG: Final = Failed(
    Refusal(
        Code.CONTEXT_LENGTH_EXCEEDED, 400, "The prompt has more tokens than this model's context."
    )
)
REFUSED: Final = Failed(
    Refusal(
        Code.UPSTREAM_REFUSED,
        400,
        "The model server does not take this request: it may be too long for the model, or ask for "
        "something that the server was not started with.",
    )
)
OVERLOADED: Final = Failed(
    Refusal(Code.UPSTREAM_OVERLOADED, 503, "The model's queue is full.", retry_after=1)
)
UNAVAILABLE: Final = Failed(
    Refusal(
        Code.UPSTREAM_UNAVAILABLE, 503, "The model server takes no requests now.", retry_after=1
    )
)
CUT: Final = Failed(
    Refusal(Code.UPSTREAM_LOST, 502, "The connection to the model server broke. Try again.")
)
SILENT: Final = Failed(
    Refusal(Code.UPSTREAM_TIMEOUT, 504, "The model server stayed silent for too long.")
)
NOT_READY: Final = Refusal(
    Code.MODEL_NOT_READY, 503, "No replica of this model is ready.", retry_after=5
)
INVALID_OUTPUT: Final = Failed(
    Refusal(Code.INVALID_OUTPUT, 502, "The model's answer is not in the form that was asked for.")
)


def failure(said: str, status: int = 200) -> Failed:
    """Tell what a model server's error means for the client.

    Args:
        said: its words.
        status: HTTP status that they came with.

    >>> failure('{"error":"Exceeds maximum queue size"}', 400) is OVERLOADED
    True
    """
    if LONG.search(said) is not None:
        return TOO_LONG
    if status == 429 or any(words in said.lower() for words in FULL):
        return OVERLOADED
    return UNAVAILABLE if status == 503 else REPORTED
