"""The admin port: health and metrics for everybody, the rest for service accounts that may.

It is served as the data port is, by an `Edge` of its own, which drains last.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote

import msgspec
import structlog

from headgate_api.errors import HeadgateError
from headgate_api.labels import GATEWAY_AUDIENCE
from headgate_gateway.edge.errors import JSON
from headgate_gateway.edge.exchange import Exchange, Head
from headgate_gateway.edge.heads import TOKEN
from headgate_gateway.edge.limits import Limits
from headgate_gateway.edge.server import Edge
from headgate_gateway.explain.explanation import Explanation
from headgate_gateway.explain.words import words
from headgate_gateway.feedback import Feedback
from headgate_gateway.snapshots import Snapshots
from headgate_gateway.telemetry.exposition import CONTENT_TYPE
from headgate_gateway.waking import in_task

log = structlog.get_logger(__name__)

Access: TypeAlias = Literal["allowed", "forbidden", "unknown"]
Authorize: TypeAlias = Callable[[str, str], Awaitable[Access]]
"""From a bearer token and a path to whether its owner may GET it. Raises `HeadgateError`."""
Answer: TypeAlias = tuple[int, bytes, bytes]
"""Status, header lines and body."""

SEND: Final = f"send a service account's token for the audience {GATEWAY_AUDIENCE}"
REQUESTS: Final = "/debug/requests"
METHODS: Final = ("GET", "HEAD")
LIMITS: Final = Limits(body_bytes=4096, bodies_bytes=1024 * 1024)
"""No request here needs a body."""
NO_STORE: Final = b"cache-control: no-store\r\n"
METRICS: Final = b"content-type: %s\r\n" % CONTENT_TYPE.encode()


def admin_port(handle: "Admin") -> Edge:
    return Edge(handle, LIMITS, ids=lambda: "", refused=lambda _: None, name="admin port")


class Admin:
    """Answers exchanges. `__call__` never raises, but for cancellation.

    Args:
        snapshots: reported under /snapshot.
        feedback: reported under /feedback.
        metrics: shown under /metrics.
        requests: reports under /debug/requests what is in work.
        explain: explains under /debug/requests/ID a request that has ended, or says why it cannot.
        unready: tells why the gateway should get no requests; empty: it should.
        authorize: guards what is not open.
    """

    def __init__(
        self,
        *,
        snapshots: Snapshots,
        feedback: Feedback,
        metrics: Callable[[], bytes],
        requests: Callable[[], bytes],
        explain: Callable[[str], Explanation | str],
        unready: Callable[[], str],
        authorize: Authorize,
    ) -> None:
        self._explain = explain
        self._unready = unready
        self._authorize = authorize
        self._open: dict[str, Callable[[], Answer]] = {
            "/healthz": lambda: _text("ok"),
            "/readyz": self._readiness,
            "/metrics": lambda: (200, METRICS, metrics()),
        }
        self._reports: dict[str, Callable[[], bytes]] = {
            "/snapshot": lambda: msgspec.json.encode(snapshots.report),
            "/feedback": feedback.body,
            REQUESTS: requests,
        }

    async def __call__(self, exchange: Exchange) -> None:
        try:
            status, headers, body = await self._answer(exchange.head)
        except Exception:
            log.exception("bug", path=exchange.head.path)
            status, headers, body = _text("Internal Server Error", 500)
        exchange.start(status, headers, length=len(body))
        exchange.finish(body)

    async def _answer(self, head: Head) -> Answer:
        path = head.path
        # Who may see all requests may see each: no right names an id.
        right = REQUESTS if path.startswith(f"{REQUESTS}/") else path
        if path not in self._open and right not in self._reports:
            return _text("Not Found", 404)
        if head.method not in METHODS:
            return _text("Method Not Allowed", 405, b"allow: %s\r\n" % ", ".join(METHODS).encode())
        if path in self._open:
            return self._open[path]()
        if (refused := await self._refused(head, right)) is not None:
            return refused
        return self._explanation(head) if path != right else _json(self._reports[path]())

    async def _refused(self, head: Head, right: str) -> Answer | None:
        """Let those in that may get `right`."""
        token = _token(head)
        if not token:
            return _text(SEND, 401)
        await in_task()  # whom it asks may take too long
        try:
            access = await self._authorize(token, right)
        except HeadgateError as error:  # the words are not for whoever asks
            log.warning("token not checked", path=head.path, error=str(error))
            return _text("the token could not be checked", 503)
        match access:
            case "allowed":
                return None
            case "forbidden":
                return _text("this account may not get this path", 403)
            case "unknown":
                return _text(f"the token is not valid; {SEND}", 401)

    def _readiness(self) -> Answer:
        why = self._unready()
        return _text(why or "ok", 503 if why else 200, NO_STORE)

    def _explanation(self, head: Head) -> Answer:
        found = self._explain(unquote(head.path.removeprefix(f"{REQUESTS}/")))
        if isinstance(found, str):
            return _text(found, 404, NO_STORE)
        if head.headers.get(b"accept", b"").startswith(b"text/plain"):
            return _text(words(found), 200, NO_STORE)
        return _json(msgspec.json.encode(found))


def _token(head: Head) -> str:
    """Find the bearer token; empty: there is none.

    The API server takes `authorization` from what it passes on to a pod, hence the other header.
    """
    if (passed_on := head.headers.get(TOKEN)) is not None:
        return passed_on.decode("latin-1")
    scheme, _, token = head.headers.get(b"authorization", b"").partition(b" ")
    return token.decode("latin-1") if scheme.lower() == b"bearer" else ""


def _text(text: str, status: int = 200, more: bytes = b"") -> Answer:
    return status, more + b"content-type: text/plain; charset=utf-8\r\n", text.encode()


def _json(body: bytes) -> Answer:
    return 200, NO_STORE + JSON, body
