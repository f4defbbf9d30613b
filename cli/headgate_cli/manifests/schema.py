"""One object against the schema of its CRD, in the words of the API server.

A library for JSON schema would know none of what Kubernetes adds (defaults, keyed lists, strict
field names, rules), and would say the rest in other words than `kubectl apply` does.
"""

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from headgate_api.crd import LIST_TYPE
from headgate_cli.manifests import rules
from headgate_cli.manifests.findings import Fault, Path, field_of

Schema: TypeAlias = Mapping[str, Any]

FREE: Final = frozenset({"apiVersion", "kind", "metadata", "status"})
"""Fields of an object that are Kubernetes' own, or not the author's."""
LARGEST: Final = 2**63 - 1
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def check(schema: Schema, manifest: Mapping[str, Any]) -> list[Fault]:
    """Find what the API server would refuse. `manifest` gets the defaults that it would write."""
    kept = {name: value for name, value in manifest.items() if name not in FREE}
    faults = [*_unknown(schema, {**kept, "metadata": {}}, ()), *_no_numbers(kept, ())]
    if faults:
        return faults
    fill(schema, manifest)
    faults = [*_misfits(schema, manifest, ())]
    return faults or [*_broken(schema, manifest, ())]


def fill(schema: Schema, value: Any) -> None:
    """Write the defaults of `schema` into `value` where it has nothing."""
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name not in value and "default" in inner:
                value[name] = copy.deepcopy(inner["default"])
    for inner, item, _ in _parts(schema, value):
        fill(inner, item)


def _parts(schema: Schema, value: Any) -> Iterator[tuple[Schema, Any, str | int]]:
    """Go one level down: what is there, each with its schema."""
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, inner in value.items():
            if name in known:
                yield known[name], inner, name
            elif others is not None:
                yield others, inner, name
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield schema["items"], item, index


def _unknown(schema: Schema, value: Any, path: Path) -> Iterator[Fault]:
    """Find fields that no schema names: most are misspelled, and would do nothing."""
    closed = "properties" in schema and "x-kubernetes-preserve-unknown-fields" not in schema
    if closed and isinstance(value, dict):
        for name in value:
            if name not in schema["properties"] and "additionalProperties" not in schema:
                known = ", ".join(sorted(schema["properties"]))
                yield Fault((*path, name), f"unknown field; there are {known}")
    for inner, item, step in _parts(schema, value):
        yield from _unknown(inner, item, (*path, step))


def _no_numbers(value: Any, path: Path) -> Iterator[Fault]:
    """Find numbers that YAML has and a manifest cannot: an API server takes JSON."""
    match value:
        case dict():
            for name, inner in value.items():
                yield from _no_numbers(inner, (*path, name))
        case list():
            for index, item in enumerate(value):
                yield from _no_numbers(item, (*path, index))
        case float() if not math.isfinite(value):
            yield Fault(path, f"Invalid value: {value}: JSON has no such number")
        case int() if not -LARGEST <= value <= LARGEST:
            yield Fault(path, f"Invalid value: {value}: more than 64 bits")
        case _:
            pass


def _misfits(schema: Schema, value: Any, path: Path) -> Iterator[Fault]:
    """Find values that are not what their schema says."""
    faults = [*_own(schema, value, path)]
    yield from faults
    if any("must be of type" in fault.message for fault in faults):
        return
    for inner, item, step in _parts(schema, value):
        yield from _misfits(inner, item, (*path, step))


def _own(schema: Schema, value: Any, path: Path) -> Iterator[Fault]:
    field = field_of(path)

    def fault(said: str, *, shown: Any = value) -> Fault:
        return Fault(path, f"Invalid value: {json.dumps(shown)}: {field} in body {said}")

    if (types := _types(schema)) and not _is(value, types):
        kind = _type(value)
        yield fault(f'must be of type {",".join(types)}: "{kind}"', shown=kind)
        return
    if "enum" in schema and value not in schema["enum"]:
        values = ", ".join(map(json.dumps, schema["enum"]))
        yield Fault(path, f"Unsupported value: {json.dumps(value)}: supported values: {values}")
    match value:
        case dict():
            for name in schema.get("required", ()):
                if name not in value:
                    yield Fault((*path, name), "Required value")
            yield from _size(schema, path, value, "Properties", "properties")
        case list():
            yield from _size(schema, path, value, "Items", "items")
            yield from _duplicates(schema, value, path)
        case str():
            yield from _size(schema, path, value, "Length", "chars long")
            if "pattern" in schema and not re.search(schema["pattern"], value):
                yield fault(f"should match '{schema['pattern']}'")
            if schema.get("format") == "date-time" and not _is_date(value):
                yield fault(f"must be of type date-time: {json.dumps(value)}")
        case int() | float() if value < schema.get("minimum", value):
            yield fault(f"should be greater than or equal to {schema['minimum']}")
        case int() | float() if value > schema.get("maximum", value):
            yield fault(f"should be less than or equal to {schema['maximum']}")
        case _:
            pass


def _size(schema: Schema, path: Path, value: Any, word: str, what: str) -> Iterator[Fault]:
    size = len(value)
    least, most = schema.get(f"min{word}", size), schema.get(f"max{word}", size)
    if size < least:
        shown, verb = (json.dumps(value), "be") if word == "Length" else (size, "have")
        said = f"{field_of(path)} in body should {verb} at least {least} {what}"
        yield Fault(path, f"Invalid value: {shown}: {said}")
    if size > most:
        one = "item" if word == "Items" and most == 1 else what
        long = f"Too long: may not be more than {most} bytes"
        many = f"Too many: {size}: must have at most {most} {one}"
        yield Fault(path, long if word == "Length" else many)


def _duplicates(schema: Schema, items: list[Any], path: Path) -> Iterator[Fault]:
    kind, keys = schema.get(LIST_TYPE), schema.get("x-kubernetes-list-map-keys", ())
    if kind not in {"set", "map"}:
        return
    seen: list[Any] = []
    for index, item in enumerate(items):
        if kind == "map":
            if not isinstance(item, dict):
                continue
            item = {key: item[key] for key in keys if key in item}  # noqa: PLW2901 - what tells it
        if item in seen:
            shown = json.dumps(item, separators=(",", ":"))
            yield Fault((*path, index), f"Duplicate value: {shown}")
        seen.append(item)


def _broken(schema: Schema, value: Any, path: Path) -> Iterator[Fault]:
    yield from rules.broken(schema, value, path)
    for inner, item, step in _parts(schema, value):
        yield from _broken(inner, item, (*path, step))


def _types(schema: Schema) -> tuple[str, ...]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    return (schema["type"],) if "type" in schema else ()


def _is(value: Any, types: tuple[str, ...]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, float) and value.is_integer():
        return bool({"integer", "number"} & {*types})
    return any(isinstance(value, _TYPES[name]) for name in types)


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case float():
            return "number"
        case _:
            return next(name for name, kinds in _TYPES.items() if isinstance(value, kinds))


def _is_date(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
