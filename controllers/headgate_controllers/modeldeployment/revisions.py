"""Accepted specs, kept as ControllerRevisions: what goes on while a later edit is refused.

How many pods run is no part of them. `kubectl scale` and autoscalers know nothing of the rest of
the spec, and who suspends a model wants its GPUs back now: both act while an edit is refused, too.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from headgate_api import labels
from headgate_api.modeldeployment import ModelDeployment
from headgate_controllers.contract import Document, Found, Key, Manifest, key_of
from headgate_controllers.modeldeployment.resources import metadata

KIND: Final = "ControllerRevision"
KEPT: Final = 3
"""How many are kept: the one accepted last, and those before it for people to look at."""
LIVE: Final = ("replicas", "suspend")
"""Fields of the spec that act as they are now."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A spec that was accepted, as its metadata tells."""

    name: str
    generation: int
    """Of the ModelDeployment, when it was accepted with this spec for the last time."""


def revisions_of(manifests: Iterable[Manifest]) -> tuple[Revision, ...]:
    """Read the revisions of a model. The one accepted last is the first."""
    revisions = (
        Revision(meta["name"], int(meta["annotations"][labels.GENERATION]))
        for meta in (manifest["metadata"] for manifest in manifests)
        if labels.GENERATION in meta.get("annotations", {})
    )
    return tuple(sorted(revisions, key=lambda revision: revision.generation, reverse=True))


def controller_revision(mdep: ModelDeployment, spec: Manifest) -> Manifest:
    """Record that `mdep` was accepted with `spec`, which is its spec as the API server has it."""
    kept = {field: value for field, value in spec.items() if field not in LIVE}
    content = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    meta = metadata(mdep, f"{mdep.metadata.name}-{sha256(content.encode()).hexdigest()[:8]}")
    generation = mdep.metadata.generation
    return {
        "apiVersion": "apps/v1",
        "kind": KIND,
        "metadata": meta | {"annotations": {labels.GENERATION: str(generation)}},
        "data": {"spec": kept},
        "revision": generation,
    }


def last_accepted(manifest: Manifest, revision: Revision, found: Found) -> Manifest | None:
    """Put what is kept in `revision` in place of a refused spec. None: it could not be read."""
    if not isinstance(found, Document) or "spec" not in found.data:
        return None
    live = {field: value for field, value in manifest["spec"].items() if field in LIVE}
    meta = manifest["metadata"] | {"generation": revision.generation}
    return {**manifest, "metadata": meta, "spec": json.loads(found.data["spec"]) | live}


def superseded(revisions: Iterable[Revision], current: Manifest) -> Iterator[Key]:
    """Name the revisions that are too old to keep beside the current one."""
    key = key_of(current)
    others = [revision.name for revision in revisions if revision.name != key.name]
    for name in others[KEPT - 1 :]:
        yield key._replace(name=name)
