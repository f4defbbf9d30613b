"""Whom the operator's own objects belong to: a ConfigMap of the chart.

`helm uninstall` knows nothing of the Lease and the snapshot. It deletes their owner, and the
cluster's garbage collector deletes them.
"""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from headgate_kube.client import Object
from headgate_kube.resources import CONFIG_MAPS, Resource

Owners: TypeAlias = Sequence[Object]
"""What stands in `metadata.ownerReferences`; none where an operator runs without a chart."""


class Api(Protocol):
    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object: ...


async def owners(api: Api, namespace: str, name: str | None) -> Owners:
    """Read the uid of the ConfigMap `name`, without which it cannot own anything."""
    if name is None:
        return ()
    meta = (await api.get(CONFIG_MAPS, namespace, name))["metadata"]
    kind = {"apiVersion": CONFIG_MAPS.api_version, "kind": CONFIG_MAPS.kind}
    return ({**kind, "name": meta["name"], "uid": meta["uid"]},)
