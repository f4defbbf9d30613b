"""Waiting on what the API server tells, without a clock in the verdict."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from headgate_kube.client import Client, Object
from headgate_kube.resources import Resource
from headgate_kube.watch import Gone, Put, watch

HANGS = 60.0  # s; ten times what a busy machine needs: a test that hangs must end


async def seen(
    client: Client,
    resource: Resource,
    namespace: str,
    name: str,
    condition: Callable[[Object], object] = bool,
) -> Object:
    """Wait for the object to be so, and return it."""
    changes = watch(client, resource, namespace=namespace, fields=f"metadata.name={name}")
    async with asyncio.timeout(HANGS), aclosing(changes):
        async for change in changes:
            if isinstance(change, Put) and condition(change.object):
                return change.object
    raise AssertionError("a watch never ends")


async def vanished(client: Client, resource: Resource, namespace: str, name: str) -> None:
    """Wait for the object, which is there, to be gone."""
    changes = watch(client, resource, namespace=namespace, fields=f"metadata.name={name}")
    async with asyncio.timeout(HANGS), aclosing(changes):
        async for change in changes:
            if isinstance(change, Gone):
                return
