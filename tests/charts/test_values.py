"""Bad values are refused before anything reaches a cluster, in words that name the value."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from .helm import CHART, DEFAULTS, ROOT, Refused, render, run

DIGEST = "sha256:0123"


def test_a_region_must_have_a_name() -> None:
    with pytest.raises(Refused, match=r"region\.name is required: name this cluster among your"):
        run("template", "headgate", str(CHART))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("region.nmae=eu", "region: Additional property nmae is not allowed"),
        ("region.name=EU West", "region.name: Does not match pattern"),
        ("gatway.replicas=2", "Additional property gatway is not allowed"),
        ("gateway.replica=2", "gateway: Additional property replica is not allowed"),
        ("gateway.replicas=two", "gateway.replicas: Invalid type"),
        ("gateway.drainSeconds=0", "gateway.drainSeconds: Must be greater than or equal to 1"),
        ("gateway.service.type=Ingress", "gateway.service.type"),
        ("gateway.image.digest=" + DIGEST, "gateway.image.digest: Does not match pattern"),
        ("gateway.env.drain=5", "gateway.env: Additional property drain is not allowed"),
        ("gateway.resources.request.cpu=1", "Additional property request is not allowed"),
        ("operator.replicas=3", "operator.replicas: Must be less than or equal to 2"),
        ("operator.image.pullPolicy=always", "operator.image.pullPolicy"),
        ("runtime.image.tag=", "runtime.image.tag: String length must be greater"),
        ("watchNamespaces=team-a", "watchNamespaces: Invalid type"),
        ("watchNamespaces={Team}", "watchNamespaces.0: Does not match pattern"),
        ("watchNamespaces={*,team-a}", 'watchNamespaces: "\\*" means all namespaces and stands'),
        ("runAs=0", "runAs: Must be greater than or equal to 1"),
        ("crds.enabled=true", "crds: Additional property enabled is not allowed"),
        ("monitoring.podMonitor.interval=fast", "podMonitor.interval: Does not match pattern"),
    ],
)
def test_a_bad_value_is_refused_by_name(pair: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        render(DEFAULTS, pair)


def test_a_parent_chart_may_hand_down_its_global_values() -> None:
    assert render(DEFAULTS, "global.anything=1").manifests == render().manifests


def leaves(node: Any, path: str = "") -> Iterator[str]:
    """Paths of values that hold something; an empty map is a leaf, users fill it."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}".lstrip("."))
    else:
        yield path


def documented() -> dict[str, str]:
    """Value and default, as the table of the manual has them."""
    manual = (ROOT / "docs" / "install.md").read_text()
    return dict(re.findall(r"^\| `([A-Za-z.]+)` \| `([^`]*)` \|", manual, flags=re.MULTILINE))


def test_the_manual_lists_every_value_with_its_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def default(path: str) -> Any:
        node = values
        for key in path.split("."):
            node = node[key]
        return node

    paths = {re.sub(r"(?<=\.resources)\..*", "", path) for path in leaves(values)}  # one row
    assert {path: default(path) for path in paths} == {
        path: yaml.safe_load(text) for path, text in documented().items()
    }
