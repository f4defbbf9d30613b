"""kopf as an informer, and nothing else of it: the only file that knows it.

Its handlers only hand events on. They write nothing on users' objects, neither annotations nor
finalizers, and cannot fail. kopf never tells a delete that fell into a gap: `relist.py` finds it.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

import kopf

from headgate_api.errors import HeadgateError
from headgate_api.labels import MODEL_SERVER, PART
from headgate_controllers.contract import Manifest, key_of
from headgate_kube.client import Client, tidy
from headgate_kube.resources import (
    BY_KIND,
    DEPLOYMENTS,
    MODEL_DEPLOYMENTS,
    NODES,
    PODS,
    ROUTING_POLICIES,
    SAFETY_POLICIES,
    TENANT_QUOTAS,
    Resource,
)
from headgate_operator.feed import Feed

CONNECTED: Final = frozenset({"startup/cleanup activities", "credentials retriever"})
"""kopf's tasks that close its connections: they stop last, when nobody uses any."""
RETRIED: Final = re.compile(r"Request attempt #(?P<number>\d+)/\d+ failed; will retry")
SCANS: Final = "kopf._cogs.clients.scanning"
OURS: Final = f"{PART}={MODEL_SERVER}"
"""The server's filter: without it we would watch every pod of the cluster."""
WATCHED: Final[dict[Resource, str]] = {
    MODEL_DEPLOYMENTS: "",
    ROUTING_POLICIES: "",
    SAFETY_POLICIES: "",
    TENANT_QUOTAS: "",
    DEPLOYMENTS: OURS,
    PODS: OURS,
    NODES: "",
}
"""What kopf watches, and the label selector of each."""


async def informed(
    feed: Feed,
    client: Client,
    namespaces: Collection[str] | None,
    started: Callable[[], None],
) -> None:
    """Feed events for ever.

    `started` is called after kopf has taken the signal handlers: whoever wants them takes them
    back there. kopf's own `run_tasks` is not for us: in the end it waits for, and then cancels,
    every task of the process that is younger than itself.

    Raises:
        HeadgateError: kopf ended, so nothing tells us of changes any more.
    """
    listen()
    settings = _settings()
    spawning = asyncio.create_task(
        kopf.spawn_tasks(
            registry=_registry(feed, client),
            settings=settings,
            # Only peering reads it; kopf's own guess needs a name for the user id, which pods lack.
            identity="headgate",  # type: ignore[arg-type]  # a NewType that kopf does not export
            clusterwide=namespaces is None,
            namespaces=namespaces or (),
        )
    )
    try:
        tasks = await asyncio.shield(spawning)
        started()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        tasks = await spawning
        await _cancel(task for task in tasks if task.get_name() not in CONNECTED)
        await _cancel(task for task in asyncio.all_tasks() - {*tasks} if _scans(task, settings))
        await _cancel(tasks)
    failures = [task.exception() for task in tasks if not task.cancelled()]
    cause = next(filter(None, failures), None)
    raise HeadgateError(f"kopf ended: {cause}") from cause


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    if left := [task for task in tasks if task.cancel()]:
        await asyncio.wait(left)


def _scans(task: asyncio.Task[Any], settings: kopf.OperatorSettings) -> bool:
    """Whether this is a request of kopf's scan of the API, which a cancelled scan leaves behind.

    Only its arguments tell whose it is.
    """
    frame = getattr(task.get_coro(), "cr_frame", None)
    if frame is None or frame.f_globals["__name__"] != SCANS:
        return False
    return frame.f_locals.get("settings") is settings


def _registry(feed: Feed, client: Client) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry, param=client)(_login)
    for resource in WATCHED:
        group, _, version = resource.api_version.rpartition("/")
        kopf.on.event(
            group=group, version=version, plural=resource.plural, registry=registry, param=feed
        )(_told)
    return registry


async def _told(event: kopf.RawEvent, resource: kopf.Resource, param: Any = None, **_: Any) -> None:
    feed: Feed = param
    manifest: Manifest = tidy(BY_KIND[str(resource.kind)], dict(event["object"]))
    if event["type"] == "DELETED":
        feed.gone(key_of(manifest), manifest["metadata"]["uid"])
    else:
        feed.put(manifest)


async def _login(param: Any = None, **_: Any) -> kopf.ConnectionInfo:
    """Hand kopf what our client uses. It asks again when the API server refuses a token."""
    client: Client = param
    settings = client.settings
    scheme, _sep, token = (await client.bearer() or "").partition(" ")
    return kopf.ConnectionInfo(
        server=settings.host,
        ca_path=settings.ssl_ca_cert,
        insecure=not settings.verify_ssl,
        certificate_path=settings.cert_file,
        private_key_path=settings.key_file,
        scheme=scheme or None,
        token=token or None,
        proxy_url=settings.proxy,
    )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None  # no SIGKILL to a process that goes on
    settings.scanning.disabled = True  # no right to list CRDs and namespaces is needed
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 0.5  # each object seen lately holds a task for so long
    settings.networking.request_timeout = 30
    # An API server may be away for long: giving up is the lease's business.
    settings.networking.error_backoffs = [0.5, 1.0, 2.0, 5.0, *[10.0] * 1000]
    settings.execution.max_workers = 1
    for resource, selector in WATCHED.items():
        if selector:
            group, _, version = resource.api_version.rpartition("/")
            settings.watching.label_selectors[group, version, resource.plural] = selector
    # Handlers of events write nothing; should one ever, then not under kopf's own names.
    settings.persistence.finalizer = "headgate.dev/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="headgate.dev")
    settings.persistence.diffbase_storage = _NoEssence()
    return settings


def listen() -> None:
    """Have kopf's logs without one line per event, and per try of a request that it repeats."""
    logger = logging.getLogger("kopf")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.handlers = [_Moderate()]


class _Moderate(logging.Handler):
    """Tells of the first failure of a request, as a warning: kopf repeats it until it works."""

    def emit(self, record: logging.LogRecord) -> None:
        if (attempt := RETRIED.match(record.getMessage())) is not None:
            if attempt["number"] != "1":
                return
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        logging.getLogger().handle(record)


class _NoEssence(kopf.DiffBaseStorage):
    """Nothing to compare: kopf's own copies each object for each event, a tenth of all our CPU."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        pass
