"""`headgate-operator`: settings from the environment, then the process until SIGTERM."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import aiohttp
import structlog
import uvloop
from pydantic import ValidationError

from headgate_api.errors import HeadgateError
from headgate_controllers import ALL
from headgate_kube.client import Client
from headgate_operator import garbage, logs, probes
from headgate_operator.gateways import AskByHttp
from headgate_operator.process import Operator
from headgate_operator.settings import Settings

log = structlog.get_logger(__name__)


def main() -> None:
    """Run the operator. Exits with 0 after a signal, with 1 when it cannot or may not go on."""
    logs.configure()
    if (settings := _settings()) is None:
        sys.exit(1)
    garbage.spare()
    code = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_run(settings))
    sys.stdout.flush()
    # Libraries' threads must not keep a process alive whose lease is lost. Nor does anybody close
    # the loop: uvloop 0.23 fails to where a TLS handshake was cancelled.
    os._exit(code)


def _settings() -> Settings | None:
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors()
    for what in wrong:
        name = "_".join(("HEADGATE_OPERATOR", *map(str, what["loc"]))).upper()
        log.error("setting is wrong", name=name, error=what["msg"])
    return None


async def _run(settings: Settings) -> int:
    stop = asyncio.Event()

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)

    take_signals()
    try:
        client = await Client.connect(
            user_agent="headgate-operator",
            kubeconfig=str(settings.kubeconfig) if settings.kubeconfig else None,
        )
        try:
            async with aiohttp.ClientSession() as http:
                ask = AskByHttp(http, settings.gateway_port, settings.gateway_token)
                operator = Operator(settings, client, ALL, ask=ask, probe=probes.probe)
                await operator.run(stop, started=take_signals)
        finally:
            await client.close()
    except Exception as error:  # noqa: BLE001 - the last place where it can be told
        _say_why(error)
        return 1
    return 0


def _say_why(error: Exception) -> None:
    """Log one line: what happened, or, where it is a bug, also how we came there."""
    causes = tuple(_causes(error))
    why = "; ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    if all(isinstance(cause, HeadgateError) for cause in causes):
        log.error("the operator ends", error=why)
    else:
        log.error("the operator broke", error=why, exc_info=error)


def _causes(error: Exception) -> Iterator[Exception]:
    if not isinstance(error, ExceptionGroup):
        yield error
        return
    for part in error.exceptions:
        yield from _causes(part)
