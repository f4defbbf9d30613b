"""One cluster and one release for all cases; they run in the order of their file names."""

import os
from collections.abc import Iterator

import pytest

from e2e.harness import MODEL, NAMESPACE, Cluster
from e2e.release import Release, examples, say, start


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """The quickstart on a fresh namespace, with two replicas of its model."""
    release = start()
    cluster = release.cluster
    say("removing what an earlier run may have left")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s")
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
