"""All manifests of some files and folders together: from paths to findings or a snapshot."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from headgate_api import crd
from headgate_api.kinds import KINDS
from headgate_api.labels import API_VERSION
from headgate_api.snapshot import Entry, Kind
from headgate_cli.manifests.files import Object, read
from headgate_cli.manifests.findings import Fault, Finding
from headgate_cli.manifests.paths import paths_of
from headgate_cli.manifests.plans import DOCUMENTS, compiled, document_faults
from headgate_cli.manifests.schema import check
from headgate_controllers.contract import Environment, Key

OTHERS: Final = DOCUMENTS | {"Node"}
"""Kinds of Kubernetes' own that decisions look at."""
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in the files."""

    objects: tuple[Object, ...] = ()
    """Those that count: of the four kinds, and what they may refer to."""
    skipped: int = 0
    """Objects of other kinds."""
    findings: tuple[Finding, ...] = ()
    entries: tuple[Entry, ...] = field(default=())
    """The snapshot; whole only where nothing was found wrong."""


def check_manifests(arguments: Iterable[str], region: str, now: datetime) -> Checked:
    """Read and judge everything in these files and folders, as the operator of `region` would.

    Raises:
        TerminalError: one of them is not there.
    """
    read_objects, findings = read(paths_of(arguments))
    objects = [found for found in read_objects if found.ours or found.kind in OTHERS]
    taken: dict[Key, Object] = {}
    broken: set[str] = set()
    for found in objects:
        wrong = [*_faults(found)] or [*_again(found, taken)]
        findings += wrong
        if wrong:
            broken.add(f'{found.kind} "{found.name}"')
        else:
            taken[found.key] = found
    # Images do not matter: nothing is started.
    environment = Environment(region=region, image="none", namespace="headgate-system")
    entries, more = compiled(taken, environment, now)
    # What refers to an object that is broken itself has nothing wrong of its own.
    findings += (f for f in more if not any(name in f.message for name in broken))
    return Checked(
        tuple(taken.values()),
        len(read_objects) - len(objects),
        tuple(sorted(set(findings), key=lambda found: (found.file, found.line, found.field))),
        tuple(entries),
    )


def _faults(found: Object) -> Iterator[Finding]:
    manifest = found.manifest
    if found.ours:
        manifest.pop("status", None)  # the operator's
    if found.ours and (version := manifest["apiVersion"]) != API_VERSION:
        yield found.finding(Fault(("apiVersion",), f"write {API_VERSION}; this is {version}"))
        return
    if found.ours and found.kind not in KINDS:
        yield found.finding(Fault(("kind",), f"{API_VERSION} has {', '.join(KINDS)}"))
        return
    if not _NAME.fullmatch(found.name):
        said = "write a-z, 0-9, '-' and '.', first and last a letter or digit"
        said += f"; this is {found.name}" if found.name else "; there is none"
        yield found.finding(Fault(("metadata", "name"), said))
        return
    if found.ours:
        schema: dict[str, Any] = crd.schema(KINDS[cast(Kind, found.kind)])
        yield from map(found.finding, check(schema, manifest))
    elif found.kind in DOCUMENTS:
        yield from document_faults(found)


def _again(found: Object, taken: dict[Key, Object]) -> Iterator[Finding]:
    if (first := taken.get(found.key)) is not None:
        where = f"{first.file}:{first.line}"
        said = f"stands a second time; the first is in {where}"
        yield found.finding(Fault(("metadata", "name"), said))
