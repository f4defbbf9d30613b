"""What the gateway does with an exchange: finds the handler, and makes sure that it ends."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import msgspec
import structlog

from headgate_gateway.edge.errors import JSON, refuse, respond
from headgate_gateway.edge.exchange import Exchange
from headgate_gateway.inference import Inference
from headgate_gateway.metrics import Metrics
from headgate_gateway.pipeline import Pipeline, decided
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.routing.router import UNKNOWN
from headgate_gateway.snapshots import Snapshots
from headgate_gateway.streaming.bodies import model_body, model_list
from headgate_gateway.streaming.surfaces import SURFACES
from headgate_gateway.telemetry.logs import REQUEST_ID

log = structlog.get_logger(__name__)

Handler: TypeAlias = Callable[[Exchange], Coroutine[Any, Any, None]]

MODELS: Final = "/v1/models"
BUG: Final = Refusal(Code.INTERNAL_ERROR, 500, "The gateway failed. Its operators can see why.")


@dataclass(slots=True)
class Service:
    """Answers exchanges. `__call__` never raises, but for cancellation."""

    snapshots: Snapshots
    inference: Inference
    doorkeeper: Pipeline  # identity alone
    metrics: Metrics

    async def __call__(self, exchange: Exchange) -> None:
        REQUEST_ID.set(exchange.id)  # in all that this task logs
        try:
            await self._answer(exchange)
        except Exception:  # the one place: counted, told, and never silent
            self.metrics.bugs.of().add()
            log.exception("bug")
            if not exchange.closed:
                refuse(exchange, BUG)

    def _answer(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        head = exchange.head
        if head.path in SURFACES and head.method == "POST":
            return self.inference(exchange)
        handler, methods = self._find(head.path)
        if handler is None:
            sentence = "There is nothing at this URL."
            return self._refuse(exchange, Refusal(Code.UNKNOWN_URL, 404, sentence))
        if head.method not in methods:
            allowed = ", ".join(methods)
            no = Refusal(Code.METHOD_NOT_ALLOWED, 405, f"This URL takes {allowed} only.")
            return self._refuse(exchange, no, b"allow: %s\r\n" % allowed.encode())
        return handler(exchange)

    def _find(self, path: str) -> tuple[Handler | None, tuple[str, ...]]:
        if path in SURFACES:
            return self.inference, ("POST",)
        if path == MODELS or path.startswith(f"{MODELS}/"):
            return self._models, ("GET", "HEAD")
        return None, ()

    async def _models(self, exchange: Exchange) -> None:
        """`GET /v1/models` and `GET /v1/models/{id}`."""
        trace = self.inference.sampler.begin(exchange.head.headers)
        clock = asyncio.get_running_loop().time()
        request = self.snapshots.request(exchange, trace, time.time(), clock)
        verdict = await decided(self.doorkeeper.ask(request))
        if isinstance(verdict, Refusal):
            await self._refuse(exchange, verdict)
            return
        tenant = request.credential.tenant
        names = request.tables.space(tenant.namespace).names()
        # Names may hold slashes, which clients write as %2F.
        wanted = unquote(exchange.head.path.removeprefix(MODELS).removeprefix("/"))
        body: bytes | None
        if not wanted:
            body = model_list(names, tenant.may_use)
        else:
            created = dict(names).get(wanted)
            found = created is not None and tenant.may_use(wanted)
            body = msgspec.json.encode(model_body(wanted, created or 0)) if found else None
        if body is None:
            await self._refuse(exchange, UNKNOWN)
            return
        self.metrics.requests.of("200", "").add()
        respond(exchange, 200, JSON, body)

    async def _refuse(self, exchange: Exchange, refusal: Refusal, more: bytes = b"") -> None:
        self.metrics.requests.of(str(refusal.status), refusal.code).add()
        refuse(exchange, refusal, more)
