"""Refusals: every way in which the gateway says no, and the words that it uses for it."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, TypeAlias


class Code(StrEnum):
    """Reason code: the same word in the error body, the log and the metric label; never renamed.

    OpenAI's own word where it has one. `docs/errors.md` explains each to users.
    """

    # The message itself
    MALFORMED_REQUEST = "malformed_request"
    """Not HTTP/1.1 as we accept it. The connection is closed."""
    HEADERS_TOO_LARGE = "headers_too_large"
    REQUEST_TOO_LARGE = "request_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    """The request did not arrive in time."""
    UNKNOWN_URL = "unknown_url"
    METHOD_NOT_ALLOWED = "method_not_allowed"

    # Who asks
    INVALID_API_KEY = "invalid_api_key"

    # What is asked
    INVALID_JSON = "invalid_json"
    INVALID_VALUE = "invalid_value"
    MISSING_PARAMETER = "missing_required_parameter"
    UNKNOWN_PARAMETER = "unknown_parameter"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    UNSUPPORTED_VALUE = "unsupported_value"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    MODEL_NOT_FOUND = "model_not_found"
    CONTENT_FILTER = "content_filter"
    """A rule of a SafetyPolicy matched."""
    TOOL_ITERATIONS_EXCEEDED = "tool_iterations_exceeded"
    """The conversation has called tools more often in a row than its route allows."""
    TOKEN_BUDGET_EXCEEDED = "token_budget_exceeded"  # noqa: S105 - of words, not of a door
    """The tokens that one request of the tenant may use do not suffice for its next call."""
    CALL_BUDGET_EXCEEDED = "call_budget_exceeded"
    """It has caused as many calls of models as one request of the tenant may."""
    INVALID_PROMPT = "invalid_prompt"
    """The model's chat template refuses this conversation."""

    # Its Idempotency-Key
    INVALID_IDEMPOTENCY_KEY = "invalid_idempotency_key"
    IDEMPOTENCY_OFF = "idempotency_off"
    """The gateway has no store for keys: it says so, instead of running a request twice."""
    IDEMPOTENCY_KEY_IN_USE = "idempotency_key_in_use"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    """It came with another body before."""
    IDEMPOTENT_ANSWER_NOT_KEPT = "idempotent_answer_not_kept"
    """Answered before, with more than may be kept."""
    IDEMPOTENCY_UNAVAILABLE = "idempotency_unavailable"
    """The store does not answer: a key that cannot be honoured must not run."""

    # Whether it can be served now
    POLICY_NOT_LOADED = "policy_not_loaded"
    """The gateway has no snapshot yet."""
    STAGE_UNDECIDED = "stage_undecided"
    """A stage ran out of time: never a pass by silence."""
    MODEL_NOT_READY = "model_not_ready"
    MODEL_SUSPENDED = "model_suspended"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """The request's time is over, or too short for what it asks."""
    GATEWAY_OVERLOADED = "gateway_overloaded"
    GATEWAY_DRAINING = "gateway_draining"

    # What the model server did
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_LOST = "upstream_lost"
    """The connection broke before the answer was complete."""
    UPSTREAM_INVALID = "upstream_invalid"
    UPSTREAM_OVERRUN = "upstream_overrun"
    """It wrote far more than the tokens that it was granted."""
    UPSTREAM_OVERLOADED = "upstream_overloaded"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    """It answers that it takes no requests now."""
    UPSTREAM_TIMEOUT = "upstream_timeout"
    """No token within the time that it may stay silent."""
    UPSTREAM_REFUSED = "upstream_refused"
    """The model server finds fault with the request itself: another would say the same."""
    INVALID_OUTPUT = "invalid_output"
    """The model's answer is not in the form that the client asked for."""
    ANSWER_NOT_ACCEPTED = "answer_not_accepted"
    """There was an answer, and it was not what its route asks of one. It is not shown."""
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A stage's no: a value, so that the type checker sees who must handle it."""

    code: Code
    status: int  # HTTP
    message: str  # for the caller: never their own text, another tenant's name or a secret
    param: str | None = None  # the field of the request's body that is meant
    retry_after: float | None = None  # s


class Pass(Enum):
    """A stage's yes. Not None: a forgotten `return` must never let a request through."""

    PASS = 1


PASS: Final = Pass.PASS
Verdict: TypeAlias = Pass | Refusal
