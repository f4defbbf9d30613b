"""The controllers' decisions about objects in files: what would be in force, and what is wrong.

The same `plan` that the operator runs, on a cache that holds what the files hold: no pods, no
status, nothing in force before. Nodes count where the files have them.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from headgate_api.snapshot import Entry
from headgate_cli.manifests.files import Object
from headgate_cli.manifests.findings import Finding, fault_in, faults_in
from headgate_controllers.contract import (
    Controller,
    Document,
    Environment,
    Found,
    Key,
    Manifest,
    Missing,
    Programmed,
)
from headgate_controllers.modeldeployment.controller import CONTROLLER as MODELS
from headgate_controllers.routingpolicy.controller import CONTROLLER as ROUTES
from headgate_controllers.safetypolicy.controller import CONTROLLER as SAFETY
from headgate_controllers.tenantquota.controller import CONTROLLER as TENANTS

CONTROLLERS: Final[tuple[Controller[Any], ...]] = (MODELS, ROUTES, TENANTS, SAFETY)
DOCUMENTS: Final = frozenset({"Secret", "ConfigMap"})
WRONG: Final = frozenset({"Accepted", "ResolvedRefs", "SpecHonored"})
"""Conditions that tell, when they are False, of a mistake in the files."""
ABSENT: Final = re.compile('there is no [A-Z][A-Za-z]+ "')
BORN: Final = "1970-01-01T00:00:00Z"
"""Files have no age: of two that claim one name, the first by its name has it."""


def alive(manifest: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """Make a manifest look as if an API server had taken it."""
    meta = dict(manifest["metadata"]) | {
        "namespace": key.namespace,
        "uid": str(uuid5(NAMESPACE_URL, "/".join(key))),
        "generation": 1,
        "creationTimestamp": BORN,
    }
    return {**manifest, "metadata": meta}


@dataclass(slots=True)
class FileCache:
    """What controllers may look at. See `contract.Cache`."""

    objects: Mapping[Key, Manifest]
    documents: Mapping[Key, Document]
    words: Mapping[tuple[str, str], list[Manifest]]
    compiled: list[Entry] = field(default_factory=list)
    held: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)

    def get(self, key: Key) -> Manifest | None:
        return self.objects.get(key)

    def all(self, kind: str, namespace: str | None = None) -> Iterable[Manifest]:
        return [
            manifest
            for key, manifest in self.objects.items()
            if key.kind == kind and namespace in (None, key.namespace)
        ]

    def owned(self, kind: str, uid: str) -> Iterable[Manifest]:
        return ()

    def find(self, kind: str, word: str) -> Iterable[Manifest]:
        return self.words.get((kind, word), ())

    def holders(self, kind: str, word: str) -> Iterable[Entry]:
        return self.held.get((kind, word), ())

    def document(self, key: Key) -> Found:
        return self.documents.get(key, Missing())

    def accepted(self, key: Key) -> Entry | None:
        return None

    def entries(self, kind: str) -> Iterable[Entry]:
        return [entry for entry in self.compiled if entry.kind == kind]

    def programmed(self, key: Key, generation: int) -> Programmed:
        return Programmed("NoGateways")

    def answered(self, pod_uid: str) -> str | None:
        return None


def compiled(
    given: Mapping[Key, Object], environment: Environment, now: datetime
) -> tuple[list[Entry], list[Finding]]:
    """Decide about every object. Only those are given whose schema was checked.

    Returns:
        The entries of a snapshot, and what is wrong. With findings the entries are not all.
    """
    cache = _cache(given)
    findings: list[Finding] = []
    for controller in CONTROLLERS:
        for key in sorted(key for key in given if key.kind == controller.kind):
            entry, wrong = _decided(controller, given[key], cache, environment, now)
            findings += wrong
            if entry is not None:
                cache.compiled.append(entry)
                for word in controller.holds(entry):
                    cache.held.setdefault((controller.kind, word), []).append(entry)
    return cache.compiled, findings


def _decided(
    controller: Controller[Any], found: Object, cache: FileCache, env: Environment, now: datetime
) -> tuple[Entry | None, list[Finding]]:
    seen = controller.observe(found.key, cache, env)
    if seen is None:  # it is marked as being deleted
        return None, []
    plan = controller.plan(seen, now)
    sentences = dict.fromkeys(
        sentence
        for condition in plan.status["conditions"]
        if condition["type"] in WRONG and condition["status"] == "False"
        for sentence in faults_in(condition["message"])
    )
    return plan.entry, [found.finding_at(*fault_in(_helped(sentence))) for sentence in sentences]


def _helped(sentence: str) -> str:
    """Say what to do about something that only the files lack."""
    return f"{sentence}; give its file, too" if ABSENT.search(sentence) else sentence


def _cache(given: Mapping[Key, Object]) -> FileCache:
    objects = {key: alive(found.manifest, key) for key, found in given.items()}
    words: dict[tuple[str, str], list[Manifest]] = {}
    for controller in CONTROLLERS:
        for key, manifest in objects.items():
            if key.kind == controller.kind:
                for word in controller.index(manifest):
                    words.setdefault((key.kind, word), []).append(manifest)
    documents = {
        key: Document(dict(data_of(found))) for key, found in given.items() if key.kind in DOCUMENTS
    }
    return FileCache(objects, documents, words)


def data_of(found: Object) -> Iterator[tuple[str, bytes]]:
    """Read a Secret's or ConfigMap's entries. `document_faults` has found nothing wrong."""
    manifest = found.manifest
    for name, value in (manifest.get("data") or {}).items():
        yield name, base64.b64decode(value) if found.kind == "Secret" else value.encode()
    for name, value in (manifest.get("binaryData") or {}).items():
        yield name, base64.b64decode(value)
    for name, value in (manifest.get("stringData") or {}).items():
        yield name, value.encode()


def document_faults(found: Object) -> Iterator[Finding]:
    """Check the entries of a Secret or a ConfigMap. A value is never shown: it may be a key."""
    coded = ("data",) if found.kind == "Secret" else ("binaryData",)
    for part in ("data", "stringData", "binaryData"):
        entries = found.manifest.get(part) or {}
        if not isinstance(entries, dict):
            yield found.finding_at(part, "must be an object of strings")
            continue
        for name, value in entries.items():
            if not isinstance(value, str):
                yield found.finding_at(f"{part}[{name}]", "must be a string; put it in quotes")
            elif part in coded and not _is_base64(value):
                said = "is not base64; write the plain text under stringData"
                yield found.finding_at(f"{part}[{name}]", said)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    return True
