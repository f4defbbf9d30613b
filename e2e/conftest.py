"""One cluster and one release for all cases; they run in the order of their file names."""

import os
from collections.abc import Iterator

import pytest

from e2e.harness import MODEL, NAMESPACE, Cluster
from e2e.release import CASES, Release, examples, say, start
from headgate_cluster import cluster as regions


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """The quickstart in a fresh namespace, with two replicas of its model."""
    regions.down(CASES)  # of an earlier run that was killed
    release = start(CASES)
    cluster = release.cluster
    taken = cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name")
    assert not taken, f"the cases need the namespace {NAMESPACE} for themselves; delete it first"
    say("installing the release")
    release.install()
    cluster.kubectl("apply", "-f", examples("quickstart"))
    cluster.kubectl("scale", "mdep", MODEL, "--replicas=2")
    for kind, name in (("mdep", MODEL), ("tq", "demo")):
        cluster.kubectl("wait", kind, name, "--for=condition=Ready", "--timeout=120s")
    yield release
    if not os.environ.get("HEADGATE_E2E_KEEP"):  # to look at what a failed case left
        release.stop()


@pytest.fixture(scope="session")
def cluster(release: Release) -> Cluster:
    return release.cluster
