"""YAML files: the objects in them, and the line on which each field stands.

Read as kubectl reads them: several documents in a file, lists of objects, no dates. What kubectl
refuses in silence or not at all, a key that stands twice, is a finding here: the second one wins,
and the first may have been a limit.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final, TypeAlias

import yaml

from headgate_api.labels import GROUP
from headgate_cli.manifests.findings import Fault, Finding, field_of, steps_of
from headgate_controllers.contract import Key

DEFAULT_NAMESPACE: Final = "default"
DEEPEST: Final = 100
"""Levels of a document. Kubernetes' own objects have less than 20."""
EXPANSION: Final = 100
"""Values for each character of a file, beyond which only aliases can have made them."""
_TAG: Final = "tag:yaml.org,2002:"
Manifest: TypeAlias = dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """YAML as JSON knows it: no sets and no bytes, and what looks like a date stays a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.CSafeLoader.yaml_constructors.items()
    if tag not in {_TAG + name for name in ("binary", "set", "omap", "pairs", "timestamp")}
}
# PyYAML wants a dot in a number with an exponent; JSON and kubectl do not.
_Loader.add_implicit_resolver(
    _TAG + "float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789")
)


@dataclass(frozen=True, slots=True)
class Object:
    """One object of a file."""

    manifest: Manifest
    file: str
    node: yaml.Node

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def name(self) -> str:
        meta = self.manifest.get("metadata")
        return str(meta.get("name", "")) if isinstance(meta, dict) else ""

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"].get("namespace") or DEFAULT_NAMESPACE)

    @property
    def key(self) -> Key:
        return Key(self.kind, self.namespace, self.name)

    @property
    def line(self) -> int:
        return self._line(())

    @property
    def ours(self) -> bool:
        return str(self.manifest["apiVersion"]).startswith(f"{GROUP}/")

    def finding(self, fault: Fault) -> Finding:
        field = field_of(fault.path)
        line = self._line(map(str, fault.path))
        return Finding(self.file, line, self.kind, self.name, field, fault.message)

    def finding_at(self, field: str, message: str) -> Finding:
        """Blame a field as controllers write it: items of lists by their names."""
        line = self._line(steps_of(field))
        return Finding(self.file, line, self.kind, self.name, field, message)

    def _line(self, steps: Iterable[str]) -> int:
        """Tell the line of a field; of what the file leaves out, that of what it would stand in."""
        node, line = self.node, self.node.start_mark.line
        for step in steps:
            found = _inner(node, step)
            if found is None:
                break
            line, node = found
        return line + 1


def read(paths: Iterable[FilePath]) -> tuple[list[Object], list[Finding]]:
    """Read the objects of all files, and find what is no object."""
    objects: list[Object] = []
    findings: list[Finding] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
            for node in yaml.compose_all(text, _Loader):
                if said := _overgrown(node, EXPANSION * len(text)):
                    findings.append(_bare(str(path), node.start_mark.line + 1, said))
                else:
                    _collect(node, str(path), objects, findings)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = 1 if mark is None else mark.line + 1
            findings.append(_bare(str(path), line, f"not YAML: {error.problem or error.context}"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            findings.append(_bare(str(path), 1, f"cannot be read: {error}"))
    return objects, findings


def _overgrown(root: yaml.Node, most: int) -> str:
    """Say what makes a document too much to be looked at. Empty: nothing does."""
    waiting, count = [(root, 1)], 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > DEEPEST:
            return (
                f"nested more than {DEEPEST} levels deep, or an alias stands within its own anchor"
            )
        if count > most:
            return "its aliases stand for too much; write out what they mean"
        if isinstance(node, yaml.SequenceNode):
            waiting += ((item, depth + 1) for item in node.value)
        elif isinstance(node, yaml.MappingNode):
            waiting += ((each, depth + 1) for entry in node.value for each in entry)
    return ""


def _collect(
    node: yaml.Node | None, file: str, objects: list[Object], findings: list[Finding]
) -> None:
    if node is None or node.tag.endswith(":null"):
        return  # an empty document
    line = node.start_mark.line + 1
    findings += (_bare(file, at, f'the key "{key}" stands here a second time; remove one of them')
                 for key, at in _doubles(node))  # fmt: skip
    manifest = _Loader("").construct_document(node)
    if not _is_object(manifest):
        findings.append(_bare(file, line, "not an object: apiVersion and kind are expected"))
    elif manifest["kind"] == "List" and isinstance(manifest.get("items"), list):
        _, items = _inner(node, "items") or (0, node)
        for item in items.value:
            _collect(item, file, objects, findings)
    else:
        objects.append(Object(manifest, file, node))


def _is_object(manifest: object) -> bool:
    return isinstance(manifest, dict) and all(
        isinstance(manifest.get(field), str) for field in ("apiVersion", "kind")
    )


def _doubles(node: yaml.Node) -> Iterator[tuple[str, int]]:
    """Find keys that stand twice in one mapping, and the line of the second."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _doubles(item)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                yield key.value, key.start_mark.line + 1
            seen.add(key.value if isinstance(key.value, str) else "")
            yield from _doubles(value)


def _inner(node: yaml.Node, step: str) -> tuple[int, yaml.Node] | None:
    """Go one step down: to an entry of a mapping, or to an item by its index or its name."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            named = _inner(item, "name")
            if step == str(index) or (named is not None and named[1].value == step):
                return item.start_mark.line, item
    return None


def _bare(file: str, line: int, message: str) -> Finding:
    return Finding(file, line, "", "", "", message)
