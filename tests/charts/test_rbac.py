"""Who may do what: every verb that the chart grants stands here, and no other."""

from collections.abc import Iterable
from typing import Any

import pytest

from .helm import NAMESPACE, VALUES, Release, render

Grants = dict[str, set[str]]  # resource or path -> verbs

READ = {"get", "list", "watch"}
CHILD = READ | {"create", "patch", "delete"}
ALL = READ | {"create", "update", "patch", "delete", "deletecollection"}

OPERATOR_AT_HOME: Grants = {
    "coordination.k8s.io/leases": {"get", "create", "update"},
    "configmaps": READ | {"create", "update", "delete"},
    "pods": READ,
    "events": {"get", "create", "patch"},
}
OPERATOR_WHERE_IT_WATCHES: Grants = {
    "headgate.dev/modeldeployments": READ,
    "headgate.dev/routingpolicies": READ,
    "headgate.dev/safetypolicies": READ,
    "headgate.dev/tenantquotas": READ,
    "headgate.dev/modeldeployments/status": {"patch"},
    "headgate.dev/routingpolicies/status": {"patch"},
    "headgate.dev/safetypolicies/status": {"patch"},
    "headgate.dev/tenantquotas/status": {"patch"},
    "headgate.dev/modeldeployments/finalizers": {"update"},
    "apps/deployments": CHILD,
    "apps/controllerrevisions": CHILD,
    "services": CHILD,
    "configmaps": CHILD,
    "policy/poddisruptionbudgets": CHILD,
    "networking.k8s.io/networkpolicies": CHILD,
    "pods": READ,
    "secrets": READ,
    "events": {"get", "create", "patch"},
}
OPERATOR_OF_THE_CLUSTER: Grants = {"nodes": READ, "/snapshot": {"get"}, "/feedback": {"get"}}

ROLES = {
    ("Role", "headgate-operator"): OPERATOR_AT_HOME,
    ("ClusterRole", "headgate-operator-watched"): OPERATOR_WHERE_IT_WATCHES,
    ("ClusterRole", "headgate-operator"): OPERATOR_OF_THE_CLUSTER,
    ("Role", "headgate-gateway"): {"configmaps": READ},
    ("ClusterRole", "headgate-gateway-watched"): {"pods": READ},
    ("ClusterRole", "headgate-explain"): {"/debug/requests": {"get"}},
    ("ClusterRole", "headgate-view"): {
        "headgate.dev/modeldeployments": READ,
        "headgate.dev/routingpolicies": READ,
        "headgate.dev/safetypolicies": READ,
        "headgate.dev/tenantquotas": READ,
        "headgate.dev/modeldeployments/scale": {"get"},
    },
    ("ClusterRole", "headgate-edit"): {
        "headgate.dev/modeldeployments": ALL,
        "headgate.dev/routingpolicies": ALL,
        "headgate.dev/modeldeployments/scale": {"get", "update", "patch"},
    },
    ("ClusterRole", "headgate-platform-admin"): {
        "headgate.dev/modeldeployments": ALL,
        "headgate.dev/routingpolicies": ALL,
        "headgate.dev/safetypolicies": ALL,
        "headgate.dev/tenantquotas": ALL,
        "headgate.dev/modeldeployments/scale": {"get", "update", "patch"},
    },
}


def grants(rules: Iterable[dict[str, Any]]) -> Grants:
    found: Grants = {}
    for rule in rules:
        names = [
            f"{group}/{resource}".lstrip("/")
            for group in rule.get("apiGroups", ())
            for resource in rule["resources"]
        ] + rule.get("nonResourceURLs", [])
        for name in names:
            found.setdefault(name, set()).update(rule["verbs"])
    return found


def roles(release: Release) -> dict[tuple[str, str], Grants]:
    return {
        (manifest["kind"], manifest["metadata"]["name"]): grants(manifest["rules"])
        for manifest in release.manifests
        if manifest["kind"] in {"Role", "ClusterRole"}
    }


def bindings(release: Release, account: str) -> set[tuple[str, str, str]]:
    """Where the account has which role: (namespace, or `*` for everywhere; kind; name)."""
    subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    return {
        (
            "*" if manifest["kind"] == "ClusterRoleBinding"
            else manifest["metadata"].get("namespace", NAMESPACE),
            manifest["roleRef"]["kind"],
            manifest["roleRef"]["name"],
        )
        for manifest in release.manifests
        if manifest["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        and manifest["subjects"] == [subject]
    }  # fmt: skip


@pytest.mark.parametrize("values", sorted(VALUES))
def test_the_chart_grants_exactly_this(values: str) -> None:
    assert ROLES == roles(render(values))


def test_nothing_is_granted_by_a_wildcard() -> None:
    for role, granted in roles(render()).items():
        words = {word for name, verbs in granted.items() for word in (*name.split("/"), *verbs)}
        assert "*" not in words, role


@pytest.mark.parametrize("values", sorted(VALUES))
def test_a_gateway_has_no_verb_on_secrets(values: str) -> None:
    release = render(values)
    held = {(kind, name) for _, kind, name in bindings(release, "headgate-gateway")}
    assert ("ClusterRole", "system:auth-delegator") in held
    ours = held - {("ClusterRole", "system:auth-delegator")}  # two reviews, and nothing else
    assert {"configmaps", "pods"} == {name for role in ours for name in roles(release)[role]}


@pytest.mark.parametrize(
    ("values", "watched"),
    [
        ("defaults", {NAMESPACE}),
        ("teams", {"team-a", "team-b"}),
        ("all-namespaces", {"*"}),
    ],
)
def test_roles_are_bound_in_the_watched_namespaces_and_nowhere_else(
    values: str, watched: set[str]
) -> None:
    assert {
        (NAMESPACE, "Role", "headgate-operator"),
        ("*", "ClusterRole", "headgate-operator"),
        *((namespace, "ClusterRole", "headgate-operator-watched") for namespace in watched),
    } == bindings(render(values), "headgate-operator")
    assert {
        (NAMESPACE, "Role", "headgate-gateway"),
        ("*", "ClusterRole", "system:auth-delegator"),
        *((namespace, "ClusterRole", "headgate-gateway-watched") for namespace in watched),
    } == bindings(render(values), "headgate-gateway")


def test_application_teams_get_models_and_routes_with_the_clusters_own_roles() -> None:
    def aggregated(values: str) -> dict[str, list[str]]:
        return {
            role["metadata"]["name"]: [
                label.removeprefix("rbac.authorization.k8s.io/aggregate-to-")
                for label in role["metadata"]["labels"]
                if label.startswith("rbac.authorization.k8s.io/")
            ]
            for role in render(values).all("ClusterRole")
            if "headgate.dev/part" not in role["metadata"]["labels"]
        }

    assert {
        "headgate-view": ["view"],
        "headgate-edit": ["edit"],
        "headgate-platform-admin": [],
    } == aggregated("defaults")
    assert {"headgate-view": [], "headgate-edit": [], "headgate-platform-admin": []} == aggregated(
        "openshift"
    )
