"""`headgate-operator`: settings from the environment, then the process until SIGTERM."""

import asyncio
import os
import signal
import sys

import aiohttp
import structlog
import uvloop
from pydantic import ValidationError

from headgate_api.errors import HeadgateError
from headgate_controllers import ALL
from headgate_kube.client import Client
from headgate_operator import garbage, logs, triton
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
    code = uvloop.run(_run(settings))
    sys.stdout.flush()
    # Libraries' threads must not keep a process alive whose lease is lost.
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
    code = 0

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)

    take_signals()
    try:
        client = await Client.connect(
            user_agent="headgate-operator",
            kubeconfig=str(settings.kubeconfig) if settings.kubeconfig else None,
        )
        async with aiohttp.ClientSession() as http:
            ask = AskByHttp(http, settings.gateway_port, settings.gateway_token)
            operator = Operator(settings, client, ALL, ask=ask, probe=triton.probe)
            await operator.run(stop, started=take_signals)
        await client.close()
    except* HeadgateError as group:
        for error in group.exceptions:
            log.error("the operator ends", error=str(error), kind=type(error).__name__)  # noqa: TRY400 - no bug, so no trace
        code = 1
    return code
