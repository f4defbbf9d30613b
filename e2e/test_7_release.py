"""The release itself: upgraded one program at a time, objects deleted, uninstalled."""

import json

import pytest

from e2e.harness import MODEL, RELEASE, Cluster, load, until
from e2e.release import REGION, Release, examples
from e2e.test_2_changes import PODS, settled
from headgate_cluster import machines
from headgate_cluster.commands import run

pytestmark = pytest.mark.cluster


def next_tag(release: Release, program: str) -> str:
    """Give the program's image a second tag: to Helm and the kubelet it is another release.

    There is no release before this one; what skews schemas is shown in tests/policy and
    tests/gateway.
    """
    assert release.layout, "needs the local cluster, whose containerd it asks"
    pid = machines.read_pid(release.layout.machine(REGION))
    assert pid
    old = release.tags[program]
    ctr = machines.inside(
        pid, "ctr", "-n", "k8s.io", "images", "tag", "--force", old, f"{old}-next"
    )
    run(*ctr)
    return f"{old}-next".rpartition(":")[2]


def image_of(cluster: Cluster, workload: str) -> str:
    found = json.loads(cluster.kubectl("get", workload, "-o", "json"))
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.mark.parametrize("program", ["operator", "gateway"])
def test_one_program_is_upgraded_while_the_other_stays(
    release: Release, cluster: Cluster, program: str
) -> None:
    """Operator new with gateway old, then the reverse; streams go on and a change still arrives."""
    workload = {
        "operator": "deployment/headgate-operator",
        "gateway": "statefulset/headgate-gateway",
    }
    # The client's default: a kept connection may be closed in the moment in which it is used again.
    with load(cluster, retries=2) as streams:
        before = image_of(cluster, workload[program])
        release.install(**{f"{program}.image.tag": next_tag(release, program)})
        assert before != image_of(cluster, workload[program])
        cluster.kubectl("scale", "mdep", MODEL, "--replicas=1")
        settled(cluster, 1)
        cluster.kubectl("scale", "mdep", MODEL, "--replicas=2")
        settled(cluster, 2)
        streams.more(4)
    assert {} == dict(streams.failures)


def test_deleting_the_objects_leaves_nothing_behind(cluster: Cluster) -> None:
    cluster.kubectl("delete", "-f", examples("quickstart"))
    kinds = "deployments,services,poddisruptionbudgets,networkpolicies,configmaps,pods"
    until(lambda: not cluster.all(kinds, PODS), 120, "no child is left")


def test_uninstall_leaves_only_the_kept_crds(release: Release, cluster: Cluster) -> None:
    cluster.helm("uninstall", RELEASE, "--wait", "--timeout=120s")

    def left() -> list[str]:
        kinds = "all,configmaps,secrets,serviceaccounts,roles,rolebindings,leases,pdb,netpol"
        names = cluster.kubectl("get", kinds, "-o", "name").split()
        return [name for name in names if "kube-root-ca" not in name and "sa/default" not in name]

    until(lambda: not [n for n in left() if "headgate" in n], 60, "nothing of the release is left")
    crds = cluster.kubectl("get", "crds", "-o", "name")
    assert "modeldeployments.headgate.dev" in crds
