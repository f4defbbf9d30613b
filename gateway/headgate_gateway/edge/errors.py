"""Refusals as OpenAI's clients read them: one body, a few headers, and an event inside a stream."""

from math import ceil
from typing import Final

import msgspec

from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.refusals import Code, Refusal

JSON: Final = b"content-type: application/json\r\n"
TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    429: "insufficient_quota",
    501: "invalid_request_error",
    504: "timeout",
    505: "invalid_request_error",
}
TRY_AGAIN: Final = frozenset({Code.UPSTREAM_LOST})
"""Errors of the moment, besides those that say when to try again."""


def error_body(refusal: Refusal, *, partial: bool = False) -> bytes:
    """Build `{"error": {...}}`. OpenAI's client raises on it, in a body and in a stream alike.

    `partial`: what the client has is a part of an answer.
    """
    kind = TYPES.get(refusal.status)
    if kind is None:
        kind = "invalid_request_error" if refusal.status < 500 else "server_error"
    error: dict[str, str | bool | None] = {
        "message": refusal.message,
        "type": kind,
        "param": refusal.param,
        "code": str(refusal.code),
    }
    if partial:
        error["partial_output"] = True
    return msgspec.json.encode({"error": error})


def error_event(refusal: Refusal, *, partial: bool = False) -> bytes:
    return b"data: %s\n\n" % error_body(refusal, partial=partial)


def refusal_headers(refusal: Refusal) -> bytes:
    headers = b"%sx-headgate-reason: %s\r\n" % (JSON, refusal.code.encode())
    if refusal.retry_after is not None:
        # Whole seconds for everybody; OpenAI's client reads the other one first.
        headers += b"retry-after: %d\r\n" % ceil(refusal.retry_after)
        headers += b"retry-after-ms: %d\r\n" % (refusal.retry_after * 1000)
    if refusal.status >= 500 or refusal.status == 429:
        # OpenAI's client would else repeat what fails the same way each time.
        again = refusal.retry_after is not None or refusal.code in TRY_AGAIN
        headers += b"x-should-retry: %s\r\n" % (b"true" if again else b"false")
    if refusal.status == 401:
        headers += b"www-authenticate: Bearer\r\n"
    return headers


def refuse(exchange: Exchange, refusal: Refusal, more: bytes = b"") -> None:
    """Answer with a refusal, in the one way that is still open.

    Before the answer has begun it gets a status of its own; inside a stream it is the last event,
    without the clean end that would make it look complete. `more`: header lines.
    """
    if exchange.started:
        exchange.finish(error_event(refusal))
        return
    respond(exchange, refusal.status, refusal_headers(refusal) + more, error_body(refusal))


def respond(exchange: Exchange, status: int, headers: bytes, body: bytes) -> None:
    """Answer at once and whole: one write."""
    headers += b"x-request-id: %s\r\n" % exchange.id.encode()
    exchange.start(status, headers, length=len(body))
    exchange.finish(body)
