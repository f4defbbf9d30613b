from collections.abc import Iterator

import pytest

from headgate_cluster import binaries
from headgate_cluster.light import LightCluster

from .helm import CHART, NAMESPACE, OTHER, VALUES, helm


@pytest.fixture(scope="session")
def cluster() -> Iterator[LightCluster]:
    """One of its own: other suites apply the CRDs to theirs, and Helm would not take those over."""
    with LightCluster(binaries.built(binaries.LIGHT)) as cluster:
        for namespace in (NAMESPACE, OTHER):
            cluster.kubectl("create", "namespace", namespace)
        yield cluster


@pytest.fixture(scope="session")
def release(cluster: LightCluster) -> Iterator[LightCluster]:
    helm(cluster, "install", "headgate", str(CHART), "-f", str(VALUES["defaults"]))
    yield cluster
    helm(cluster, "uninstall", "headgate")
