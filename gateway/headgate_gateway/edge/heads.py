"""What is wrong with a request's head, beyond what the parser itself refuses.

The parser is llhttp in its strict mode. It refuses both lengths at once, repeated or odd lengths,
bare line feeds, folded lines, spaces before the colon and control characters; see the tests.
"""

from collections.abc import Mapping
from typing import Final

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
    host = headers.get(b"host")
    coding = headers.get(b"transfer-encoding")
    checks = (
        (version not in ("1.1", "1.0"), VERSION),
        (len(url) > limits.url_bytes, LONG_HEAD),
        (coding is not None and (coding.lower() != b"chunked" or version == "1.0"), CODING),
        (version == "1.1" and host is None, HOST),
        (host is not None and b"," in host, HOST),
        (not url.startswith(b"/"), MALFORMED),
        (headers.get(b"expect", b"100-continue").lower() != b"100-continue", EXPECT),
        (int(headers.get(b"content-length", b"0")) > limits.body_bytes, long_body(limits)),
    )
    return next((fault for wrong, fault in checks if wrong), None)


def long_body(limits: Limits) -> Refusal:
    sentence = f"The request's body is larger than {limits.body_bytes} bytes."
    return Refusal(Code.REQUEST_TOO_LARGE, 413, sentence)
