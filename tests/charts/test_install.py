"""The chart on a real API server: installed, upgraded, uninstalled, applied as Argo CD would."""

import json

import pytest

from headgate_cluster.light import LightCluster

from .helm import CHART, NAMESPACE, OTHER, VALUES, helm, run

pytestmark = pytest.mark.apiserver

CRDS = (
    "modeldeployments.headgate.dev",
    "routingpolicies.headgate.dev",
    "safetypolicies.headgate.dev",
    "tenantquotas.headgate.dev",
)


def may(cluster: LightCluster, part: str, verb: str, resource: str, namespace: str) -> bool:
    group, _, plural = resource.rpartition("/")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:headgate-{part}",
            "resourceAttributes": {
                "verb": verb, "group": group, "resource": plural, "namespace": namespace
            },
        },
    }  # fmt: skip
    answer = cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])


def versions(cluster: LightCluster, manifests: str) -> dict[str, str]:
    """resourceVersion of everything, after a server-side apply as a GitOps tool does it."""
    applied = cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--field-manager=gitops",
        "-n", NAMESPACE, "-o", "json", "-f", "-", stdin=manifests,
    )  # fmt: skip
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in json.loads(applied)["items"]
    }


def test_one_install_brings_the_four_kinds(release: LightCluster) -> None:
    release.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{crd}" for crd in CRDS)
    )


def test_crds_outlive_the_release_and_the_next_one_takes_them_over(release: LightCluster) -> None:
    helm(release, "uninstall", "headgate")
    kept = release.kubectl("get", "crd", *CRDS, "-o", "name").split()
    left = release.kubectl("get", "all,cm,sa,roles,rolebindings,pdb", "-n", NAMESPACE, "-o", "name")
    helm(release, "install", "headgate", str(CHART), "-f", str(VALUES["defaults"]))

    assert len(CRDS) == len(kept)
    assert "headgate" not in left


def test_an_upgrade_with_the_same_values_touches_no_pod(release: LightCluster) -> None:
    def generations() -> str:
        return release.kubectl(
            "get", "deploy,sts", "-n", NAMESPACE, "-o", "jsonpath={.items[*].metadata.generation}"
        )

    before = generations()
    helm(release, "upgrade", "headgate", str(CHART), "-f", str(VALUES["defaults"]))
    assert before == generations() == "1 1"


@pytest.mark.parametrize("values", ["defaults", "teams"])
def test_what_is_applied_twice_does_not_differ(cluster: LightCluster, values: str) -> None:
    """What the API server fills in is no drift: a second apply writes nothing."""
    rendered = run(
        "template", f"drift-{values}", str(CHART), "--namespace", NAMESPACE,
        "-f", str(VALUES[values]), "--set", f"crds.install=false,watchNamespaces={{{NAMESPACE}}}",
    )  # fmt: skip
    assert versions(cluster, rendered) == versions(cluster, rendered)


@pytest.mark.parametrize(
    ("part", "verb", "resource", "allowed"),
    [
        ("operator", "get", "secrets", {NAMESPACE}),
        ("operator", "delete", "secrets", set()),
        ("operator", "patch", "apps/deployments", {NAMESPACE}),
        ("operator", "patch", "headgate.dev/modeldeployments", set()),
        ("operator", "update", "coordination.k8s.io/leases", {NAMESPACE}),
        ("gateway", "watch", "configmaps", {NAMESPACE}),
        ("gateway", "watch", "pods", {NAMESPACE}),
        ("gateway", "get", "secrets", set()),
        ("gateway", "list", "secrets", set()),
        ("gateway", "watch", "headgate.dev/tenantquotas", set()),
    ],
)
def test_accounts_may_no_more_than_they_need(
    release: LightCluster, part: str, verb: str, resource: str, allowed: set[str]
) -> None:
    namespaces = (NAMESPACE, OTHER)
    assert allowed == {name for name in namespaces if may(release, part, verb, resource, name)}


def test_a_gateway_may_ask_who_calls_its_admin_port(release: LightCluster) -> None:
    assert may(release, "gateway", "create", "authentication.k8s.io/tokenreviews", "")
    assert may(release, "gateway", "create", "authorization.k8s.io/subjectaccessreviews", "")
