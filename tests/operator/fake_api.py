"""An API server for tests of one part: objects, versions, conflicts, and failures on demand.

What depends on how a real server behaves is tested against one (marker `apiserver`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from headgate_api.errors import Conflict, HeadgateError, NotFound
from headgate_kube.client import Object
from headgate_kube.resources import BY_KIND, Resource

Name = tuple[str, str, str]


@dataclass
class FakeApi:
    objects: dict[Name, Object] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    """Writes, as "verb Kind/name"."""
    failures: dict[str, list[HeadgateError]] = field(default_factory=dict)
    """By call: errors to raise, in this order, before the call succeeds."""
    _versions: Any = field(default_factory=lambda: count(1))

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        self._fail(f"get {resource.kind}/{name}")
        return self._found(resource, namespace, name)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        selector: str = "",
        metadata_only: bool = False,
    ) -> tuple[list[Object], str]:
        self._fail(f"list {resource.kind}")
        label, _, value = selector.partition("=")
        found = [
            item
            for (kind, space, _), item in self.objects.items()
            if (kind, space) == (resource.kind, namespace)
            and item["metadata"].get("labels", {}).get(label) == value
        ]
        return found, "0"

    async def create(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any]
    ) -> Object:
        name = body["metadata"]["name"]
        self._write(f"create {resource.kind}/{name}")
        if (resource.kind, namespace or "", name) in self.objects:
            raise Conflict(f"{name} already exists")
        return self._store(resource, namespace, name, body)

    async def replace(self, resource: Resource, body: Mapping[str, Any]) -> Object:
        meta = body["metadata"]
        self._write(f"replace {resource.kind}/{meta['name']}")
        there = self._found(resource, meta.get("namespace"), meta["name"])
        if meta.get("resourceVersion") not in (None, there["metadata"]["resourceVersion"]):
            raise Conflict("the object has been modified")
        return self._store(resource, meta.get("namespace"), meta["name"], body)

    async def apply(
        self, manifest: Mapping[str, Any], *, manager: str, force: bool = True
    ) -> Object:
        meta = manifest["metadata"]
        self._write(f"apply {manifest['kind']}/{meta['name']}" + ("" if force else " gently"))
        resource = BY_KIND[manifest["kind"]]
        if not force and (resource.kind, meta["namespace"], meta["name"]) in self.objects:
            raise Conflict("field is owned by somebody else")
        return self._store(resource, meta["namespace"], meta["name"], manifest)

    async def apply_status(self, manifest: Mapping[str, Any], *, manager: str) -> Object:
        meta = manifest["metadata"]
        self._write(f"status {manifest['kind']}/{meta['name']}")
        resource = BY_KIND[manifest["kind"]]
        there = self._found(resource, meta["namespace"], meta["name"])
        body = {**there, "status": manifest["status"]}
        return self._store(resource, meta["namespace"], meta["name"], body)

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, patch: Mapping[str, Any]
    ) -> Object:
        self._write(f"merge {resource.kind}/{name}")
        there = self._found(resource, namespace, name)
        return self._store(resource, namespace, name, {**there, **patch})

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str | None = None
    ) -> bool:
        self._write(f"delete {resource.kind}/{name}")
        return self.objects.pop((resource.kind, namespace or "", name), None) is not None

    def put(self, manifest: Mapping[str, Any]) -> Object:
        """Have an object there without a call."""
        meta = manifest["metadata"]
        resource = BY_KIND[manifest["kind"]]
        return self._store(resource, meta.get("namespace"), meta["name"], manifest)

    def _write(self, call: str) -> None:
        self._fail(call)
        self.calls.append(call)

    def _fail(self, call: str) -> None:
        for start, errors in self.failures.items():
            if call.startswith(start) and errors:
                raise errors.pop(0)

    def _found(self, resource: Resource, namespace: str | None, name: str) -> Object:
        try:
            found = self.objects[resource.kind, namespace or "", name]
        except KeyError:
            raise NotFound(f"{resource.plural} {name} not found") from None
        return {**found, "metadata": dict(found["metadata"])}

    def _store(
        self, resource: Resource, namespace: str | None, name: str, body: Mapping[str, Any]
    ) -> Object:
        there = self.objects.get((resource.kind, namespace or "", name), {"metadata": {}})
        version = next(self._versions)
        meta = {
            "generation": 1,
            **there["metadata"],
            **body["metadata"],
            "resourceVersion": str(version),
        }
        meta.setdefault("uid", f"uid-{version}")
        if there.get("spec") not in (None, body.get("spec")):
            meta["generation"] += 1
        stored = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            **body,
            "metadata": meta,
        }
        self.objects[resource.kind, namespace or "", name] = stored
        return {**stored, "metadata": dict(meta)}
