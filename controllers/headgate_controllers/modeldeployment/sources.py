"""Where checkpoints and drafts lie, as their pod sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from headgate_api.variants import Variant

MODELS_DIR: Final = "/models"
"""Where the claim of a pvc:// source is mounted."""
DRAFT_DIR: Final = "/draft"
"""Where the claim of a draft is mounted, if it is another one."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a source lies, as the pod sees it."""

    path: str
    """A path in the pod; for hf:// the repository on Hugging Face."""
    revision: str | None = None
    claim: str | None = None


def locate(uri: str, mount: str = MODELS_DIR) -> Location:
    """Read a source's URI.

    >>> locate("hf://org/name@main"), locate("pvc://weights/llama/8b").path
    (Location(path='org/name', revision='main', claim=None), '/models/llama/8b')
    """
    url = urlsplit(uri)
    match url.scheme:
        case "hf":
            path, _, revision = uri.removeprefix("hf://").rpartition("@")
            return Location(path, revision=revision)
        case "pvc":
            return Location(mount + url.path, claim=url.netloc)
        case _:
            return Location(url.path)


def locate_draft(variant: Variant) -> Location | None:
    """Find the draft of a variant that guesses by one.

    On the claim of the checkpoint it lies beside that, because kubelets do not mount a claim twice
    for a pod.
    """
    if variant.speculative is None or variant.speculative.draft is None:
        return None
    uri = variant.speculative.draft.uri
    beside = locate(uri)
    return beside if beside.claim == locate(variant.source.uri).claim else locate(uri, DRAFT_DIR)


def claims(variant: Variant) -> Mapping[str, str]:
    """Name the claims that a pod mounts, by where."""
    source, draft = locate(variant.source.uri), locate_draft(variant)
    mounted = {MODELS_DIR: source.claim}
    if draft is not None and draft.claim != source.claim:
        mounted[DRAFT_DIR] = draft.claim
    return {where: claim for where, claim in mounted.items() if claim is not None}
