"""The CRD reference of the manual: one page for each kind, and one for conditions and reasons."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from headgate_api import conditions, crd
from headgate_api.base import RULES, Resource
from headgate_api.labels import API_VERSION

NOTE: Final = "<!-- Generated from api/headgate_api by `make generate`. Do not edit. -->\n\n"
ORDER: Final = {"map": "merged by {}", "set": "in any order", "atomic": "replaced as a whole"}


def pages(resources: Iterable[type[Resource]]) -> dict[str, str]:
    """Make the pages: path in the repository, and Markdown."""
    made = {f"docs/reference/{each.kind.lower()}.md": NOTE + _page(each) for each in resources}
    return made | {"docs/reference/conditions.md": NOTE + _conditions()}


def _page(resource: type[Resource]) -> str:
    schema = crd.schema(resource)
    shown = ", ".join(column.name.upper() for column in resource.columns if not column.wide)
    wide = ", ".join(column.name.upper() for column in resource.columns if column.wide)
    parts = [
        f"# {resource.kind}",
        schema["description"],
        f"`apiVersion: {API_VERSION}`, namespaced.",
        f"`kubectl get {resource.short_name}` shows {shown}; with `-o wide` also {wide}.",
    ]
    for part in ("spec", "status"):
        rows = _rows(schema["properties"][part], part)
        parts += [f"## {part}", _table(("Field", "Type", "Meaning"), rows)]
    refused = _refusals(schema, "")
    parts += ["## What the API server refuses", _table(("Where", "What it says"), refused)]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    body = "".join(f"\n| {line} |" for line in lines)
    return f"| {' | '.join(head)} |\n|{'---|' * len(head)}{body}"


def _rows(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """List the fields of an object, each followed by the fields inside it."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        notes = [_type(field)]
        if name in schema.get("required", ()):
            notes.append("required")
        if not isinstance(default := field.get("default", {}), dict):
            notes.append(
                f"default `{str(default).lower() if isinstance(default, bool) else default}`"
            )
        yield f"`{here}`", ", ".join(notes), field["description"]
        yield from _rows(field, here)
        yield from _rows(field.get("items", {}), f"{here}[]")


def _type(field: Mapping[str, Any]) -> str:
    """Say in words what a field takes."""
    words = "any object"
    match field:
        case {"items": items, "maxItems": most, crd.LIST_TYPE: kind}:
            how = ORDER[kind].format(*field.get("x-kubernetes-list-map-keys", ()))
            words = f"list of {field.get('minItems', 0)} to {most} ({_type(items)}), {how}"
        case {"enum": values}:
            words = " or ".join(f"`{value}`" for value in values)
        case {"additionalProperties": values}:
            words = f"map to {_type(values)}"
        case {"x-kubernetes-int-or-string": True}:
            words = "quantity"
        case {"type": kind, "minimum": least, "maximum": most}:
            words = f"{kind}, {least} to {most}"
        case {"format": "date-time"}:
            words = "time"
        case {"properties": _}:
            words = "object"
        case {"x-kubernetes-validations": [*_, {"rule": rule}]} if "duration(self)" in rule:
            words = "duration"
        case {"maxLength": most}:
            words = f"string of up to {most}"
        case {"type": "boolean" | "integer" as kind}:
            words = kind
        case _:
            pass
    return words


def _refusals(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """List the rules of a schema, with `...` where a message shows the value."""
    for rule in schema.get(RULES, ()):
        yield f"`{(path + rule.get('fieldPath', '')).removeprefix('.')}`", rule["message"]
    for name, field in schema.get("properties", {}).items():
        yield from _refusals(field, f"{path}.{name}")
    for inner, step in (("items", "[]"), ("additionalProperties", ".*")):
        if inner in schema:
            yield from _refusals(schema[inner], path + step)


def _conditions() -> str:
    """List the reasons by condition, in the words of `conditions.py`."""
    parts = [
        "# Conditions and reasons",
        "`Unknown` means that something could not be checked, or that it is not decided yet.",
        "Reasons never change their meaning: alert on them.",
    ]
    for section in inspect.getsource(conditions.Reason).split("    # ")[1:]:
        reasons = re.findall(r' = "(\w+)".*\n    """((?:.|\n)*?)"""', section)
        rows = ((f"`{word}`", " ".join(meaning.split())) for word, meaning in reasons)
        parts += [f"## {section.split()[0]}", _table(("Reason", "Meaning"), rows)]
    return "\n\n".join(parts) + "\n"
