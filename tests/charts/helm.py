"""Renders the chart as a user's `helm template` would, with the real Helm."""

import functools
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from headgate_cluster.light import LightCluster

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts" / "headgate"
BIN: Final = Path(sysconfig.get_path("scripts"))
NAMESPACE: Final = "platform"
OTHER: Final = "team-a"
VALUES: Final = {path.stem: path for path in Path(__file__).with_name("values").glob("*.yaml")}
DEFAULTS: Final = "defaults"

Manifest = dict[str, Any]


class Refused(Exception):
    """Helm did not render; the message is what it tells the user."""


@dataclass(frozen=True)
class Release:
    """Everything that one `helm install` would create."""

    manifests: tuple[Manifest, ...]

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest:
        (found,) = (
            manifest
            for manifest in self.manifests
            if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)
            and namespace in {None, manifest["metadata"].get("namespace")}
        )
        return found

    def all(self, kind: str) -> Iterator[Manifest]:
        return (manifest for manifest in self.manifests if manifest["kind"] == kind)

    def pod_spec(self, part: str) -> Manifest:
        workload = {
            "operator": ("Deployment", "headgate-operator"),
            "gateway": ("StatefulSet", "headgate-gateway"),
        }
        spec: Manifest = self.get(*workload[part])["spec"]["template"]["spec"]
        return spec

    def container(self, part: str) -> Manifest:
        (container,) = self.pod_spec(part)["containers"]
        found: Manifest = container
        return found


def run(*arguments: str) -> str:
    done = subprocess.run(
        [str(BIN / "helm"), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def helm(cluster: LightCluster, *arguments: str) -> str:
    return run(*arguments, f"--kubeconfig={cluster.kubeconfig}", f"--namespace={NAMESPACE}")


@functools.cache
def render(values: str = DEFAULTS, *sets: str) -> Release:
    """Render one of `tests/charts/values/`, with further `--set` pairs."""
    text = run(
        "template", "headgate", str(CHART), "--namespace", NAMESPACE, "-f", str(VALUES[values]),
        *(part for pair in sets for part in ("--set", pair)),
    )  # fmt: skip
    return Release(tuple(filter(None, yaml.safe_load_all(text))))
