"""What is wrong with a request's head, beyond what the parser itself refuses.

The parser is llhttp in its strict mode. It refuses both lengths at once, repeated or odd lengths,
bare line feeds, folded lines, spaces before the colon and control characters; see the tests.
"""

from collections.abc import Mapping
from typing import Final

from headgate_api.labels import GATEWAY_TOKEN
from headgate_gateway.edge.limits import Limits
from headgate_gateway.refusals import Code, Refusal

MALFORMED: Final = Refusal(Code.MALFORMED_REQUEST, 400, "This is not a well-formed request.")
UPGRADE: Final = Refusal(Code.MALFORMED_REQUEST, 400, "This port speaks HTTP/1.1, nothing else.")
VERSION: Final = Refusal(Code.MALFORMED_REQUEST, 505, "This port speaks HTTP/1.1.")
CODING: Final = Refusal(Code.MALFORMED_REQUEST, 501, "The only transfer coding is chunked.")
HOST: Final = Refusal(Code.MALFORMED_REQUEST, 400, "A request needs exactly one Host header.")
EXPECT: Final = Refusal(Code.MALFORMED_REQUEST, 417, "The only expectation is 100-continue.")
LONG_HEAD: Final = Refusal(Code.HEADERS_TOO_LARGE, 431, "Request line and headers are too large.")
FULL: Final = Refusal(
    Code.GATEWAY_OVERLOADED, 503, "The gateway holds as many requests as it can.", retry_after=1
)
LATE: Final = Refusal(Code.REQUEST_TIMEOUT, 408, "The request did not arrive in time.")

OURS: Final = b"-ours"
"""Stands for every name that only the gateway may say; what came under it is dropped."""
PREFIXES: Final = (b"x-headgate-", b"x-gateway-", b"forwarded")
EXPLAIN: Final = b"x-headgate-explain"
"""Takes the grant `Explain`."""
TOKEN: Final = GATEWAY_TOKEN.encode()
"""Means something on the admin port alone."""
TAKEN: Final = (EXPLAIN, TOKEN)
"""The headers of ours that a client may send."""
NAMES: Final[dict[bytes, bytes]] = {}
"""Names as clients spell them, to lower case: there are few, and they are always the same."""
MOST_NAMES: Final = 1024
HOST_BYTES: Final = b"".join(
    (
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        b"-._~%!$&'()*+;=:[]",
    )
)
"""What a host may be made of. A comma may not: it stands between two."""


def learn(name: bytes) -> bytes:
    """Put a header's name into lower case, and remember it in `NAMES`."""
    lower = name.lower()
    known = OURS if lower.startswith(PREFIXES) and lower not in TAKEN else lower
    if len(NAMES) >= MOST_NAMES:
        NAMES.clear()
    if len(name) <= 64:
        NAMES[name] = known
    return known


def head_fault(
    version: str, url: bytes, headers: Mapping[bytes, bytes], limits: Limits
) -> Refusal | None:
    """Find what makes a head unacceptable.

    Args:
        version: as in "1.1".
        url: the request's target.
        headers: names in lower case, repeated ones joined with a comma.
        limits: its sizes.
    """
    return (
        _line_fault(version, url, limits)
        or _length_fault(version, headers, limits)
        or _meaning_fault(version, headers)
    )


def _line_fault(version: str, url: bytes, limits: Limits) -> Refusal | None:
    if version not in ("1.1", "1.0"):
        return VERSION
    if len(url) > limits.url_bytes:
        return LONG_HEAD
    return None if url.startswith(b"/") else MALFORMED


def _length_fault(version: str, headers: Mapping[bytes, bytes], limits: Limits) -> Refusal | None:
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if version == "1.0":
            return MALFORMED  # its writer cannot know what it means
        return None if coding.lower() == b"chunked" else CODING
    length = headers.get(b"content-length")
    return long_body(limits) if length is not None and int(length) > limits.body_bytes else None


def _meaning_fault(version: str, headers: Mapping[bytes, bytes]) -> Refusal | None:
    host = headers.get(b"host")
    if host is None:
        if version == "1.1":
            return HOST
    elif host.translate(None, HOST_BYTES):
        return HOST
    expect = headers.get(b"expect")
    return EXPECT if expect is not None and expect.lower() != b"100-continue" else None


def long_body(limits: Limits) -> Refusal:
    sentence = f"The request's body is larger than {limits.body_bytes} bytes."
    return Refusal(Code.REQUEST_TOO_LARGE, 413, sentence)
