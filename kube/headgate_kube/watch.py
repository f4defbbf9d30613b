"""Follow a collection for ever: what is there, what changes, what is gone.

An informer without a store. Streams break, versions expire, and a delete can fall into a gap; the
caller hears of all that only as objects that are put or gone.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog

from headgate_api.errors import Forbidden, HeadgateError
from headgate_kube.client import Client, Object
from headgate_kube.failures import Expired
from headgate_kube.resources import Resource

log = structlog.get_logger(__name__)

STREAM: Final = 60.0  # s; shorter than the client takes a silent connection for dead
SHORT: Final = 1.0  # s; a stream that ends sooner than this counts as a failed one
FIRST_PAUSE: Final = 0.2  # s, doubled after each failure in a row
LONGEST_PAUSE: Final = 15.0  # s


@dataclass(frozen=True, slots=True)
class Put:
    """The object is there and looks like this."""

    object: Object


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such object any more."""

    namespace: str
    name: str
    object: Object | None
    """As it was last; None: it went while nobody watched."""


@dataclass(frozen=True, slots=True)
class Synced:
    """A full list has been told: what was not `Put` does not exist."""


Change: TypeAlias = Put | Gone | Synced


async def watch(
    client: Client,
    resource: Resource,
    *,
    namespace: str | None = None,
    selector: str = "",
    fields: str = "",
    metadata_only: bool = False,
    relist_every: float = 600.0,
) -> AsyncGenerator[Change, None]:
    """Tell every object and every change, for ever.

    A list is repeated every `relist_every` s and whenever the server has forgotten where we were;
    it tells only what differs from what was told before. Where we may not watch, the log says so
    once, and the watch waits for the right.

    Args:
        client: whom to ask.
        resource: what to watch.
        namespace: only there; None: everywhere.
        selector: label selector, applied by the server.
        fields: field selector, applied by the server.
        metadata_only: the server sends nothing but metadata: no Secret's content reaches us.
        relist_every: s; a list finds deletes that no stream reported.
    """
    followed = _Followed(client, resource, namespace, selector, fields, metadata_only)
    said = log.bind(resource=resource.plural, namespace=namespace)
    failures, list_at, refused = 0, 0.0, ""
    while True:
        started = time.monotonic()
        try:
            if followed.version is None or started >= list_at:
                async with aclosing(followed.list()) as changes:
                    async for change in changes:
                        yield change
                yield Synced()
                started = time.monotonic()
                list_at = started + relist_every
            async with aclosing(followed.stream(min(STREAM, list_at - started))) as changes:
                async for change in changes:
                    failures = 0
                    yield change
            refused = ""
            if time.monotonic() - started >= SHORT:
                failures = 0
                continue
        except Expired as error:
            said.info("watch expired and lists again", error=str(error))
            followed.version = None
        except Forbidden as error:
            if refused != str(error):
                said.error("not allowed to watch, waits for the right", error=str(error))
            refused = str(error)
        except HeadgateError as error:
            if not failures:
                said.warning("watch broke and will be retried", error=str(error))
        failures += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 10))
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load


@dataclass(slots=True)
class _Followed:
    """One collection, and what was told about it so far."""

    client: Client
    resource: Resource
    namespace: str | None
    selector: str
    fields: str
    metadata_only: bool
    version: str | None = None
    """Where the next stream starts. None: only a list can tell."""
    told: dict[tuple[str, str], str] = field(default_factory=dict)
    """resourceVersion of every object that the caller believes to exist."""

    async def list(self) -> AsyncGenerator[Change, None]:
        """Tell what differs from what was told, and what has vanished since."""
        gone = set(self.told)
        pages = self.client.pages(
            self.resource,
            self.namespace,
            selector=self.selector,
            fields=self.fields,
            metadata_only=self.metadata_only,
        )
        version: str | None = None
        async with aclosing(pages):
            async for page, version in pages:  # noqa: B007 - that of the last page counts
                for item in page:
                    name = _name(item)
                    gone.discard(name)
                    if self.told.get(name) != item["metadata"]["resourceVersion"]:
                        yield self._put(item)
        for name in gone:
            del self.told[name]
            yield Gone(*name, None)
        self.version = version

    async def stream(self, seconds: float) -> AsyncGenerator[Change, None]:
        """Tell changes as they come, for about `seconds`."""
        assert self.version is not None, "a list comes first"  # noqa: S101 - for the type checker
        events = self.client.stream(
            self.resource,
            self.namespace,
            selector=self.selector,
            fields=self.fields,
            metadata_only=self.metadata_only,
            version=self.version,
            seconds=seconds,
        )
        async with aclosing(events):
            async for event, item in events:
                self.version = item["metadata"]["resourceVersion"]
                if event == "DELETED":
                    self.told.pop(_name(item), None)
                    yield Gone(*_name(item), item)
                elif event != "BOOKMARK":
                    yield self._put(item)

    def _put(self, item: Object) -> Put:
        self.told[_name(item)] = item["metadata"]["resourceVersion"]
        return Put(item)


def _name(item: Object) -> tuple[str, str]:
    meta = item["metadata"]
    return meta.get("namespace", ""), meta["name"]
