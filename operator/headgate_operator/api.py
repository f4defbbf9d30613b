"""The API server as it serves an object that several processes write: by resourceVersion."""

from collections.abc import Mapping
from typing import Any, Protocol

from headgate_kube.client import Object
from headgate_kube.resources import Resource


class Api(Protocol):
    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object: ...
    async def create(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any]
    ) -> Object: ...
    async def replace(self, resource: Resource, body: Mapping[str, Any]) -> Object: ...
