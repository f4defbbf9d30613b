"""What an API server means by an answer that is an error: our errors, by what a caller can do."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import aiohttp
import msgspec

from headgate_api.errors import Conflict, Forbidden, HeadgateError, Invalid, NotFound, Unavailable

LATER: Final = frozenset({401, 408, 429, 500, 502, 503, 504})
"""Statuses that another try may cure; 401 because tokens rotate."""
BAD_PATCH: Final = "failed to create typed patch object"
"""How the server says, as a 500, that an applied manifest has a field that its kind lacks."""


class Expired(Unavailable):
    """The resource version or the page is too old for the server. List again."""


MEANING: Final[Mapping[int, type[HeadgateError]]] = MappingProxyType(
    {403: Forbidden, 404: NotFound, 409: Conflict, 410: Expired}
)


async def status_of(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """Read the error's body; what is not JSON (a proxy's page) becomes the message."""
    text = await answer.text(errors="replace")
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = None
    return found if isinstance(found, dict) else {"message": text[:200]}


def failure(code: int, status: Mapping[str, Any], retry_after: str | None) -> HeadgateError:
    """Make an error of a `Status`. `retry_after`: a header, in s, where the body says nothing."""
    message = status.get("message") or f"the API server answered {code}"
    if (kind := MEANING.get(code)) is not None:
        return kind(message)
    if code in LATER and not message.startswith(BAD_PATCH):
        given = (status.get("details") or {}).get("retryAfterSeconds") or retry_after
        return Unavailable(message, after=float(given) if given else None)
    return Invalid(message)
