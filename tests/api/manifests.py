"""Manifests that the tests of the API share."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
EXAMPLES: Final = sorted((HERE.parents[1] / "examples").rglob("*.yaml"))
OURS: Final = "headgate.dev/v1alpha1"
MANUAL: Final = [
    (page, block)
    for page in sorted((HERE.parents[1] / "docs").glob("*.md"))
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    if block.startswith(f"apiVersion: {OURS}\n")
]
"""Whole manifests in pages of the manual."""

Manifest = dict[str, Any]


def read(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


COMPLETE: Final = read(HERE / "complete.yaml")
MINIMAL: Final[tuple[Manifest, ...]] = tuple(
    {"apiVersion": OURS, "kind": kind, "metadata": {"name": "minimal"}, "spec": spec}
    for kind, spec in {
        "ModelDeployment": {"variants": [{"name": "a", "source": {"uri": "hf://org/name@v1"}}]},
        "RoutingPolicy": {
            "models": ["chat"],
            "routes": [{"name": "all", "targets": [{"modelRef": {"name": "minimal"}}]}],
        },
        "TenantQuota": {
            "credentials": [{"name": "keys", "apiKeys": {"secretRef": {"name": "some-keys"}}}]
        },
        "SafetyPolicy": {},
    }.items()
)


def name_of(value: object) -> str | None:
    """Name a parameter of a test: a manifest by its kind, a file by its place."""
    match value:
        case {"kind": kind, "metadata": {"name": name}}:
            return f"{name} {kind}"
        case Path():
            return f"{value.parent.name}/{value.name}"
        case _:
            return None
