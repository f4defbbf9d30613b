"""What kopf does not tell: metadata of the kinds that we never read whole, and deletes in gaps."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from headgate_api.errors import Forbidden, HeadgateError, NotFound, TerminalError
from headgate_api.labels import MODEL_SERVER, PART
from headgate_controllers.contract import Key
from headgate_kube.client import Client
from headgate_kube.resources import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    NETWORK_POLICIES,
    PDBS,
    SECRETS,
    SERVICES,
    Resource,
)
from headgate_kube.watch import Gone, Put, watch
from headgate_operator import garbage
from headgate_operator.feed import Feed

log = structlog.get_logger(__name__)

OFTEN: Final = 600.0  # s between two lists
FIRST: Final = 60.0  # s to the second list: what went between our first list and kopf's own
RETRY: Final = 10.0  # s

METADATA: Final[dict[Resource, str]] = {
    SECRETS: "",
    CONFIG_MAPS: "",
    CONTROLLER_REVISIONS: f"{PART}={MODEL_SERVER}",
    SERVICES: f"{PART}={MODEL_SERVER}",
    PDBS: f"{PART}={MODEL_SERVER}",
    NETWORK_POLICIES: f"{PART}={MODEL_SERVER}",
}
"""Kinds of which only metadata is watched, and the label selector of each."""


@dataclass(slots=True)
class Relist:
    """Lists what kopf watches, at the start and every ten minutes."""

    client: Client
    feed: Feed
    watched: dict[Resource, str]
    namespaces: Iterable[str | None]
    listed: float = float("-inf")
    """When the last list was complete, by the monotonic clock."""

    async def run(self) -> None:
        """List again for ever."""
        pause = FIRST
        while True:
            await asyncio.sleep(pause)
            try:
                await self.all()
            except HeadgateError as error:
                if pause != RETRY:  # once is enough
                    log.warning("a list will be retried", error=str(error))
                pause = RETRY
            else:
                garbage.collect()
                pause = OFTEN

    async def all(self) -> None:
        """List everything once.

        Raises:
            Forbidden: we may not; the message names every right that is missing.
            TerminalError: a CRD is missing: to start again is the remedy.
        """
        refused = []
        for resource, selector in self.watched.items():
            for namespace in self.namespaces if resource.namespaced else (None,):
                try:
                    await self._one(resource, namespace, selector)
                except Forbidden as error:
                    refused.append(str(error))
        if refused:
            raise Forbidden("; ".join(refused))
        self.listed = time.monotonic()

    async def _one(self, resource: Resource, namespace: str | None, selector: str) -> None:
        before = self.feed.store.uids(resource.kind)
        present: set[str] = set()
        try:
            async for page, _ in self.client.pages(resource, namespace, selector=selector):
                for manifest in page:
                    present.add(manifest["metadata"]["uid"])
                    self.feed.put(manifest)
        except NotFound as error:
            raise TerminalError(f"{resource.plural}.{resource.api_version}: {error}") from error
        for key, uid in before.items():
            if uid not in present and namespace in (None, key.namespace):
                log.info("a delete was missed", kind=key.kind, object=f"{key.namespace}/{key.name}")
                self.feed.gone(key, uid)


async def follow(
    feed: Feed, client: Client, resource: Resource, namespace: str | None, synced: asyncio.Event
) -> None:
    """Feed the metadata of one kind for ever, and say when all of it was told once."""
    selector = METADATA[resource]
    changes = watch(client, resource, namespace=namespace, selector=selector, metadata_only=True)
    async for change in changes:
        match change:
            case Put(manifest):
                feed.put(manifest)
            case Gone(namespace_, name, last):
                # Not another one that has its name by now, which our own write has told us of.
                uid = last["metadata"]["uid"] if last else None
                feed.gone(Key(resource.kind, namespace_, name), uid)
            case _:
                synced.set()
