"""The admin port: health and metrics for everybody, the rest for service accounts that may.

An ordinary web framework: nothing on the data path knows it.
"""

import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

import msgspec
import structlog
import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from headgate_api.errors import HeadgateError, TerminalError
from headgate_api.labels import GATEWAY_AUDIENCE, GATEWAY_TOKEN
from headgate_gateway.explain.explanation import Explanation
from headgate_gateway.explain.words import words
from headgate_gateway.feedback import Feedback
from headgate_gateway.snapshots import Snapshots

log = structlog.get_logger(__name__)

Access: TypeAlias = Literal["allowed", "forbidden", "unknown"]
Authorize: TypeAlias = Callable[[str, str], Awaitable[Access]]
"""From a bearer token and a path to whether its owner may GET it. Raises `HeadgateError`."""

SEND: Final = f"send a service account's token for the audience {GATEWAY_AUDIENCE}"
REQUESTS: Final = "/debug/requests"
NO_STORE: Final = {"cache-control": "no-store"}


def application(
    *,
    snapshots: Snapshots,
    feedback: Feedback,
    registry: CollectorRegistry,
    requests: Callable[[], bytes],
    explain: Callable[[str], Explanation | str],
    unready: Callable[[], str],
    authorize: Authorize,
) -> Starlette:
    """Build the application.

    Args:
        snapshots: reported under /snapshot.
        feedback: reported under /feedback.
        registry: shown under /metrics.
        requests: reports under /debug/requests what is in work.
        explain: explains under /debug/requests/ID a request that has ended, or says why it cannot.
        unready: tells why the gateway should get no requests; empty: it should.
        authorize: guards what is not open.
    """

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        why = unready()
        return PlainTextResponse(why or "ok", 503 if why else 200, NO_STORE)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    def explanation(request: Request) -> Response:
        found = explain(request.path_params["id"])
        if isinstance(found, str):
            return PlainTextResponse(found, 404, NO_STORE)
        if request.headers.get("accept", "").startswith("text/plain"):
            return PlainTextResponse(words(found), headers=NO_STORE)
        return _json(msgspec.json.encode(found))

    def guarded(
        give: Callable[[Request], Response], path: str
    ) -> Callable[[Request], Awaitable[Response]]:
        """Let those in that may get `path`."""

        async def answer(request: Request) -> Response:
            token = _token(request)
            if not token:
                return PlainTextResponse(SEND, 401)
            try:
                access = await authorize(token, path)
            except HeadgateError as error:  # the words are not for whoever asks
                log.warning("token not checked", path=request.url.path, error=str(error))
                return PlainTextResponse("the token could not be checked", 503)
            match access:
                case "allowed":
                    return give(request)
                case "forbidden":
                    return PlainTextResponse("this account may not get this path", 403)
                case "unknown":
                    return PlainTextResponse(f"the token is not valid; {SEND}", 401)

        return answer

    def report(path: str, body: Callable[[], bytes]) -> Route:
        return Route(path, guarded(lambda _: _json(body()), path))

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            report("/snapshot", lambda: msgspec.json.encode(snapshots.report)),
            report("/feedback", feedback.body),
            report(REQUESTS, requests),
            # Who may see all requests may see each: no right names an id.
            Route(f"{REQUESTS}/{{id:path}}", guarded(explanation, REQUESTS)),
        ]
    )


def _token(request: Request) -> str:
    """Find the bearer token; empty: there is none.

    The API server takes `authorization` from what it passes on to a pod, hence the other header.
    """
    if (passed_on := request.headers.get(GATEWAY_TOKEN)) is not None:
        return passed_on
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _json(body: bytes) -> Response:
    return Response(body, headers={**NO_STORE, "content-type": "application/json"})


class AdminServer(uvicorn.Server):
    """On the gateway's loop; signals are for the gateway alone."""

    def __init__(self, app: Starlette, port: int, host: str = "") -> None:
        super().__init__(
            uvicorn.Config(app, port=port, log_config=None, access_log=False, lifespan="off")
        )
        self._address = host, port

    def listen(self) -> socket.socket:
        """Take the port. Raises `TerminalError`; left to itself, the framework would just exit."""
        host, port = self._address
        everywhere = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if everywhere or ":" in host else socket.AF_INET
        try:
            return socket.create_server(self._address, family=family, dualstack_ipv6=everywhere)
        except OSError as error:
            raise TerminalError(f"the admin port {port} cannot be used: {error}") from error

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
