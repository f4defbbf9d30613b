"""/metrics, /healthz and /readyz."""

from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

STALE: Final = 3600.0  # s; lists come every ten minutes, so their task hangs or starves


async def serve(
    host: str, port: int, *, unready: Callable[[], str], age: Callable[[], float]
) -> web.AppRunner:
    """Listen, and return what must be cleaned up in the end.

    Args:
        host: address.
        port: 0 lets the system choose.
        unready: why the process does not know the cluster; empty: it does. A standby is ready, too:
            it is warm.
        age: seconds since the last complete list.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        if not unready() and age() > STALE:
            return web.Response(status=503, text=f"no complete list for {age():.0f} s\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if why := unready():
            return web.Response(status=503, text=f"{why}\n")
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
