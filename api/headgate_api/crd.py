"""The fold: pydantic's JSON schema of a resource as the structural schema of a CRD.

Kubernetes takes a small part of JSON schema. References are inlined, an optional field is one that
may be absent (never null), real unions do not exist, and numbers keep OpenAPI 3.0's bounds.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, TypeAlias

from headgate_api.base import Resource
from headgate_api.labels import GROUP, VERSION

Schema: TypeAlias = dict[str, Any]

KEPT: Final = (
    *("description", "type", "format", "enum", "default", "pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "minItems", "maxItems", "maxProperties", "x-kubernetes-int-or-string"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations"),
    *("required", "items", "additionalProperties", "properties"),
)
"""What a schema of ours may say, in the order in which it reads best."""
ATOMIC: Final = "atomic"
LIST_TYPE: Final = "x-kubernetes-list-type"


def fold(schema: Mapping[str, Any], defs: Mapping[str, Schema], *, atomic: bool = False) -> Schema:
    """Fold one JSON schema of pydantic's into one structural schema.

    Args:
        schema: as `model_json_schema` gives it.
        defs: what its `$ref`s point to.
        atomic: the schema lies inside an atomic list, where no default may stand.

    Raises:
        TypeError: `schema` is a union of several shapes.

    >>> fold({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, {})
    {'type': 'string'}
    >>> fold({"const": "Input", "type": "string"}, {})
    {'type': 'string', 'enum': ['Input']}
    """
    said = _inlined(schema, defs)
    if "const" in said:
        said["enum"] = [said.pop("const")]
    folded: Schema = {word: said[word] for word in KEPT if word in said}
    if "description" in folded:
        folded["description"] = " ".join(folded["description"].split())
    within = atomic or said.get(LIST_TYPE) == ATOMIC
    if "properties" in said:
        properties = said["properties"].items()
        folded["properties"] = {name: fold(sub, defs, atomic=within) for name, sub in properties}
    if "items" in said:
        folded["items"] = fold(said["items"], defs, atomic=within)
    if folded.get("additionalProperties") is True:
        del folded["additionalProperties"]
        folded["x-kubernetes-preserve-unknown-fields"] = True
    elif "additionalProperties" in folded:
        values = folded["additionalProperties"]
        folded["additionalProperties"] = fold(values, defs, atomic=within)
    if "default" in folded:
        default = folded["default"] = _pruned(folded["default"])
        # An empty list or map says nothing, but an empty object is there for its rules to look at.
        silent = default in (None, []) or (default == {} and "properties" not in folded)
        if silent or atomic:
            del folded["default"]
    return folded


def _inlined(schema: Mapping[str, Any], defs: Mapping[str, Schema]) -> Schema:
    """Replace references and "or null" by what they stand for. What stands beside them wins."""
    said = dict(schema)
    if "$ref" in said:
        return _inlined({**defs[said.pop("$ref").rsplit("/", 1)[1]], **said}, defs)
    if "anyOf" in said:
        shapes = [shape for shape in said.pop("anyOf") if shape.get("type") != "null"]
        if len(shapes) != 1:
            raise TypeError(f"a union of {len(shapes)} shapes has no structural schema: {schema}")
        return _inlined({**shapes[0], **said}, defs)
    return said


def _pruned(default: Any) -> Any:
    """Leave out what a default only says by its absence."""
    if isinstance(default, dict):
        inner = {key: _pruned(value) for key, value in default.items()}
        return {key: value for key, value in inner.items() if value not in (None, [], {})}
    return default


@cache
def schema(resource: type[Resource]) -> Schema:
    """Build the structural schema of a whole object."""
    raw = resource.model_json_schema(by_alias=True, mode="validation")
    folded = fold(raw, raw.get("$defs", {}))
    # Kubernetes describes metadata itself; a rule that blames the name needs it here, and bounded.
    name = {"type": "string", "maxLength": 253}
    folded["properties"]["metadata"] = {"type": "object", "properties": {"name": name}}
    folded["required"] = ["spec"]
    return folded


def crd(resource: type[Resource]) -> Schema:
    """Build the CustomResourceDefinition of a kind."""
    subresources: Schema = {"status": {}}
    if resource.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    columns = [
        {"name": column.name, "type": column.type, "jsonPath": column.path}
        | ({"priority": 1} if column.wide else {})
        for column in resource.columns
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": ["headgate"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": schema(resource)},
                }
            ],
        },
    }
