"""The four kinds by name: parse a manifest, and name the fields that this release ignores."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from headgate_api import crd
from headgate_api.base import JsonObject, Resource
from headgate_api.modeldeployment import ModelDeployment
from headgate_api.routingpolicy import RoutingPolicy
from headgate_api.safetypolicy import SafetyPolicy
from headgate_api.snapshot import Kind
from headgate_api.tenantquota import TenantQuota

KINDS: Final[Mapping[Kind, type[Resource]]] = {
    "ModelDeployment": ModelDeployment,
    "RoutingPolicy": RoutingPolicy,
    "TenantQuota": TenantQuota,
    "SafetyPolicy": SafetyPolicy,
}


def parse(kind: Kind, manifest: JsonObject) -> Resource:
    """Read a live object of `kind`; see `Resource.parse`, which knows the exact type."""
    return KINDS[kind].parse(manifest)


def unknown_fields(kind: Kind, manifest: JsonObject) -> tuple[str, ...]:
    """Name the fields of spec that this release ignores: those of a newer CRD.

    >>> unknown_fields("SafetyPolicy", {"spec": {"audit": {}, "rollout": {"mode": "Shadow"}}})
    ('spec.audit',)
    """
    spec = crd.schema(KINDS[kind])["properties"]["spec"]
    return tuple(_unknown(manifest.get("spec", {}), spec, "spec"))


def _unknown(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    match value:
        case dict() if "properties" in schema:
            for name, inner in value.items():
                if name in schema["properties"]:
                    yield from _unknown(inner, schema["properties"][name], f"{path}.{name}")
                else:
                    yield f"{path}.{name}"
        case list() if "items" in schema:
            for index, item in enumerate(value):
                yield from _unknown(item, schema["items"], f"{path}[{index}]")
