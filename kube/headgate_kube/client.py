"""Requests to the Kubernetes API: plain JSON in and out, errors by what a caller can do.

The library (`kubernetes.aio`) reads kubeconfigs. Its generated classes are left out: they would
parse each object into models that we would turn back into JSON (4 times the CPU of a plain request,
measured), and they know nothing of our kinds. In a pod it is not loaded at all: 24 MiB.

Every object that comes out of this package has `apiVersion` and `kind`, and no managedFields.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode
from urllib.request import getproxies

import aiohttp
import msgspec

from headgate_api.errors import Conflict, HeadgateError, NotFound, TerminalError, Unavailable
from headgate_kube import configuration
from headgate_kube.configuration import Settings
from headgate_kube.failures import failure, status_of
from headgate_kube.resources import BY_KIND, PODS, SERVICE_ACCOUNTS, Resource

Object: TypeAlias = dict[str, Any]
Page: TypeAlias = tuple[list[Object], str]
"""Objects, and the resource version of the list that they are part of."""

PAGE: Final = 500  # objects per page of a list
TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=5)  # s
WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=90)
"""The server ends a stream when its time is up; one that is silent for longer is dead."""
LONGEST_EVENT: Final = 2 * 1024 * 1024
"""Bytes of one line of a watch: the largest object that etcd takes, and more."""
METADATA: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


class Client:
    """One API server, as one user. Every method raises the errors of `headgate_api.errors`."""

    def __init__(self, settings: Settings, *, user_agent: str) -> None:
        self.settings = settings
        self._tls = configuration.tls(settings)
        self._agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    async def connect(
        cls, *, user_agent: str, kubeconfig: str | None = None, context: str | None = None
    ) -> "Client":
        """Connect as `configuration.load` says. `TerminalError`: that does not make sense."""
        settings = await configuration.load(kubeconfig, context)
        try:
            return cls(settings, user_agent=user_agent)
        except OSError as error:  # of TLS
            raise TerminalError(
                f"the certificates of {settings.host} are no use: {error}"
            ) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def bearer(self) -> str | None:
        """The `Authorization` of requests. It changes when the token rotates."""
        return await self.settings.get_api_key_with_prefix("BearerToken", alias=None)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        return await self._object(resource, "GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        selector: str = "",
        fields: str = "",
        metadata_only: bool = False,
    ) -> Page:
        """Read all objects and the resource version to watch from."""
        found: list[Object] = []
        version = ""
        pages = self.pages(
            resource, namespace, selector=selector, fields=fields, metadata_only=metadata_only
        )
        async for page, version in pages:  # noqa: B007 - that of the last page counts
            found += page
        return found, version

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        selector: str = "",
        fields: str = "",
        metadata_only: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """Read page by page, so that no more than one page is in memory at once.

        Raises:
            Expired: between two pages the snapshot that they belong to was compacted away.
        """
        query = {"limit": str(PAGE), "labelSelector": selector, "fieldSelector": fields}
        accept = METADATA.format("List") if metadata_only else "application/json"
        while True:
            answer = await self._json("GET", resource.path(namespace), query, accept=accept)
            meta = answer["metadata"]
            # A list of metadata alone says null where it is empty.
            items = answer["items"] or ()
            yield [tidy(resource, item) for item in items], meta["resourceVersion"]
            if not meta.get("continue"):
                return
            query["continue"] = meta["continue"]

    async def create(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any]
    ) -> Object:
        return await self._object(resource, "POST", resource.path(namespace), body=body)

    async def replace(self, resource: Resource, body: Mapping[str, Any]) -> Object:
        """Write the whole object. With a resourceVersion in it: only over exactly that version."""
        meta = body["metadata"]
        path = resource.path(meta.get("namespace"), meta["name"])
        return await self._object(resource, "PUT", path, body=body)

    async def apply(
        self, manifest: Mapping[str, Any], *, manager: str, force: bool = True
    ) -> Object:
        """Make the named fields so (server-side apply), creating the object where it is not there.

        With `force`, fields are taken from whoever has them. Without, a field that another manager
        has set to another value raises Conflict.
        """
        return await self._apply(manifest, manager, force=force)

    async def apply_status(self, manifest: Mapping[str, Any], *, manager: str) -> Object:
        """Apply `.status` alone; everything else in `manifest` only says which object is meant."""
        return await self._apply(manifest, manager, subresource="status")

    async def _apply(
        self,
        manifest: Mapping[str, Any],
        manager: str,
        *,
        force: bool = True,
        subresource: str = "",
    ) -> Object:
        resource = BY_KIND[manifest["kind"]]
        meta = manifest["metadata"]
        # A field that the kind lacks is refused all the same. Being strict would have the server
        # parse the manifest once more (5 % of its work), only to find fields that are there twice.
        query = {"fieldManager": manager, "fieldValidation": "Ignore"}
        if force:
            query["force"] = "true"
        path = resource.path(meta.get("namespace"), meta["name"], subresource)
        kind = "application/apply-patch+yaml"
        return await self._object(resource, "PATCH", path, query, body=manifest, content_type=kind)

    async def merge(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
    ) -> Object:
        """Change the named fields (JSON merge patch; null removes one)."""
        path = resource.path(namespace, name, subresource)
        kind = "application/merge-patch+json"
        return await self._object(resource, "PATCH", path, body=patch, content_type=kind)

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str | None = None
    ) -> bool:
        """Delete, and say whether there was anything to delete.

        With a `uid`, only the object that has it: one that took the name since then stays.
        """
        body: Object = {"propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self._json("DELETE", resource.path(namespace, name), body=body)
        except (NotFound, Conflict):
            return False
        return True

    async def token(self, namespace: str, account: str, audience: str) -> str:
        """Make a token of a service account, for one audience and ten minutes."""
        spec = {"audiences": [audience], "expirationSeconds": 600}
        path = SERVICE_ACCOUNTS.path(namespace, account, "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self._json("POST", path, body=body)
        return str(answer["status"]["token"])

    async def ask_pod(
        self, namespace: str, pod: str, port: int, path: str, *, headers: Mapping[str, str]
    ) -> str:
        """GET from a port of a pod, through the API server; it drops `Authorization` on the way."""
        where = PODS.path(namespace, f"{pod}:{port}", "proxy")
        async with self._answer("GET", where + path, headers=headers) as answer:
            return await answer.text()

    async def stream(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        selector: str,
        fields: str,
        metadata_only: bool,
        version: str,
        seconds: float,
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """Follow changes since `version` for about `seconds`; ends quietly when they are over.

        Yields:
            ADDED, MODIFIED, DELETED or BOOKMARK, and the object.

        Raises:
            Expired: the server no longer knows what happened since `version`.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, int(seconds))),
            "labelSelector": selector,
            "fieldSelector": fields,
        }
        accept = METADATA.format("") if metadata_only else "application/json"
        path = resource.path(namespace)
        async with self._answer("GET", path, query, accept=accept, timeout=WATCH_TIMEOUT) as answer:
            failed: HeadgateError | None = None
            async for line in answer.content:
                event = msgspec.json.decode(line)
                if event["type"] != "ERROR":
                    yield event["type"], tidy(resource, event["object"])
                    continue
                # The server ends the stream now. Reading to the end keeps the connection.
                failed = failure(event["object"].get("code", 500), event["object"], None)
        if failed is not None:
            raise failed

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # TLS connections end for good that their servers leave half closed.
            connector = aiohttp.TCPConnector(ssl=self._tls, enable_cleanup_closed=True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                # With it, aiohttp looks into ~/.netrc for every request, in a thread.
                trust_env=bool(getproxies()),
                read_bufsize=LONGEST_EVENT,
            )
        return self._session

    async def _object(
        self,
        resource: Resource,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        answer = await self._json(method, path, query, body=body, content_type=content_type)
        return tidy(resource, answer)

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        async with self._answer(
            method, path, query, body=body, content_type=content_type, accept=accept
        ) as answer:
            found: Object = msgspec.json.decode(await answer.read())
            return found

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        headers: Mapping[str, str] = MappingProxyType({}),
        timeout: aiohttp.ClientTimeout = TIMEOUT,  # noqa: ASYNC109 - handed on to aiohttp
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        asked = urlencode({key: value for key, value in (query or {}).items() if value})
        url = self.settings.host + path + (f"?{asked}" if asked else "")
        told = {
            "Accept": accept,
            "Content-Type": content_type,
            "User-Agent": self._agent,
            **headers,
        }
        if bearer := await self.bearer():
            told["Authorization"] = bearer
        try:
            async with self._open().request(
                method,
                url,
                headers=told,
                data=None if body is None else msgspec.json.encode(body),
                timeout=timeout,
                server_hostname=self.settings.tls_server_name,
                proxy=self.settings.proxy,
                proxy_headers=self.settings.proxy_headers,
            ) as answer:
                if answer.status >= 400:
                    status = await status_of(answer)
                    raise failure(answer.status, status, answer.headers.get("Retry-After"))
                yield answer
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.DecodeError) as error:
            # DecodeError: the answer was cut in the middle of its JSON.
            what = str(error) or type(error).__name__
            raise Unavailable(f"{method} {path}: no answer from the API server: {what}") from error


def tidy(resource: Resource, item: Object) -> Object:
    """Name the kind, which items of a list and metadata-only objects lack, and drop noise."""
    item["apiVersion"], item["kind"] = resource.api_version, resource.kind
    item.get("metadata", {}).pop("managedFields", None)
    return item
