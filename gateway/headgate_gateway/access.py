"""Whether a service account's token opens a path: asked of the API server, remembered a while.

Only tokens that were made for gateways count. One for the API server travels this port by mistake,
and saying yes would teach people to send it.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from headgate_api.labels import GATEWAY_AUDIENCE
from headgate_gateway.admin import Access
from headgate_kube.client import Client
from headgate_kube.resources import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS

REMEMBER: Final = 60.0  # s
MOST: Final = 256


class KubernetesAccess:
    """TokenReview, then SubjectAccessReview for the URL, as the API server does for its own."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[tuple[bytes, str], tuple[float, Access]] = {}

    async def __call__(self, token: str, path: str) -> Access:
        key = (sha256(token.encode()).digest(), path)
        known = self._known.get(key)
        if known is not None and self._clock() < known[0]:
            return known[1]
        access = await self._ask(token, path)
        if len(self._known) >= MOST:
            self._known.clear()  # whoever makes up tokens gets no memory of ours
        self._known[key] = (self._clock() + REMEMBER, access)
        return access

    async def _ask(self, token: str, path: str) -> Access:
        review = await self._client.create(TOKEN_REVIEWS, None, {
            "apiVersion": TOKEN_REVIEWS.api_version,
            "kind": TOKEN_REVIEWS.kind,
            "spec": {"token": token, "audiences": [GATEWAY_AUDIENCE]},
        })  # fmt: skip
        status = review.get("status", {})
        # An authenticator that knows no audiences takes any token, and then names none.
        ours = GATEWAY_AUDIENCE in (status.get("audiences") or ())
        if not status.get("authenticated") or not ours:
            return "unknown"
        user = status["user"]
        answer = await self._client.create(SUBJECT_ACCESS_REVIEWS, None, {
            "apiVersion": SUBJECT_ACCESS_REVIEWS.api_version,
            "kind": SUBJECT_ACCESS_REVIEWS.kind,
            "spec": {
                "user": user["username"],
                "uid": user.get("uid", ""),
                "groups": user.get("groups", []),
                "extra": user.get("extra", {}),
                "nonResourceAttributes": {"path": path, "verb": "get"},
            },
        })  # fmt: skip
        return "allowed" if answer.get("status", {}).get("allowed") else "forbidden"
