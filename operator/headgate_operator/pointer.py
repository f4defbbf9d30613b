"""The pointer of the snapshot: the one ConfigMap that says which shards are in force.

It is written over exactly the version that we know, and never over a higher epoch: a deposed
leader that wakes up late changes nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from headgate_api.errors import Conflict, HeadgateError, NotFound, TerminalError
from headgate_api.labels import MANAGED_BY
from headgate_api.snapshot import LABEL, POINTER, POINTER_KEY, SCHEMA, Digest, Pointer
from headgate_kube.client import Object
from headgate_kube.resources import CONFIG_MAPS
from headgate_operator.api import Api
from headgate_operator.owner import Owners
from headgate_policy.snapshot import decode_pointer, encode_pointer

log = structlog.get_logger(__name__)

Version: TypeAlias = tuple[int, int]
"""(epoch, sequence)."""


class StaleLeader(HeadgateError):
    """A later leader has published. This process must end."""


@dataclass(slots=True)
class PointerMap:
    """The pointer as it is in the cluster."""

    api: Api
    namespace: str
    leads: Callable[[], bool]
    version: Version = (0, 0)
    """Of the pointer that we read or wrote last."""
    _known: str | None = None  # its resourceVersion; None: there is none
    _text: str = ""  # what we read or wrote last
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self) -> Pointer | None:
        """Read what is in force. None: there is nothing that makes sense."""
        try:
            found = await self.api.get(CONFIG_MAPS, self.namespace, POINTER)
        except NotFound:
            self._known, self._text = None, ""
            return None
        self._known = found["metadata"]["resourceVersion"]
        self._text = found.get("data", {}).get(POINTER_KEY, "")
        try:
            pointer = decode_pointer(self._text)
        except TerminalError as error:
            log.warning("the snapshot's pointer cannot be read", error=str(error))
            return None
        # A pointer that somebody set back must not set us back.
        self.version = max(self.version, pointer.version)
        return pointer

    async def write(self, epoch: int, digests: tuple[Digest, ...], owners: Owners) -> None:
        """Put `digests` in force, with the next sequence.

        Raises:
            StaleLeader: somebody leads who came after us.
        """
        async with self._busy:
            while True:
                if self.version[0] > epoch:
                    raise StaleLeader(
                        f"epoch {self.version[0]} is in force; this leader has {epoch}"
                    )
                if not self.leads():
                    raise StaleLeader("the lease ran out before the snapshot was written")
                version = (epoch, self.version[1] + 1)
                pointer = Pointer(schema=SCHEMA, epoch=epoch, sequence=version[1], shards=digests)
                try:
                    await self._put(encode_pointer(pointer).decode(), owners)
                except (Conflict, NotFound):
                    # Another leader, somebody's edit, or our own write whose answer was lost.
                    await self.read()
                    continue
                self.version = version
                return

    async def was_edited(self, resource_version: str) -> bool:
        """Tell whether the version that a watch has seen says something else than ours.

        Also where it cannot be read now: to write it once too often does no harm.
        """
        async with self._busy:  # a watch tells of our own write before its answer is here
            if self._known is not None and int(resource_version) <= int(self._known):
                return False
            ours = self._text
            try:
                await self.read()
            except HeadgateError:
                return True
            return self._text != ours

    async def _put(self, text: str, owners: Owners) -> None:
        body = config_map(self.namespace, POINTER, "pointer", {POINTER_KEY: text}, owners)
        if self._known is None:
            answer = await self.api.create(CONFIG_MAPS, self.namespace, body)
        else:
            body["metadata"]["resourceVersion"] = self._known
            answer = await self.api.replace(CONFIG_MAPS, body)
        self._known, self._text = answer["metadata"]["resourceVersion"], text


def config_map(
    namespace: str, name: str, role: str, data: Mapping[str, str], owners: Owners
) -> Object:
    """Build a ConfigMap that is a part of the snapshot."""
    labels = {LABEL: role, MANAGED_BY: "headgate"}
    meta = {"name": name, "namespace": namespace, "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta | {"ownerReferences": list(owners)},
        "data": dict(data),
    }
