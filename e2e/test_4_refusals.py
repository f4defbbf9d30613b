"""Bad input, and policies whose Secrets go away or cannot be read."""

import json

import openai
import pytest

from e2e.harness import KEY, MODEL, Cluster, until

pytestmark = pytest.mark.cluster
WATCHED = "headgate-operator-watched"  # the role with which it reads Secrets


def answers(cluster: Cluster, key: str) -> bool:
    with cluster.openai(key) as client:
        try:
            client.models.list()
        except openai.AuthenticationError:
            return False
    return True


@pytest.fixture
def tenant(cluster: Cluster) -> str:
    """A tenant of its own, with its key."""
    key = "hg_" + "k" * 40
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "other-keys"},
        "stringData": {"one": key},
    }
    quota = {
        "apiVersion": "headgate.dev/v1alpha1",
        "kind": "TenantQuota",
        "metadata": {"name": "other"},
        "spec": {
            "credentials": [{"name": "keys", "apiKeys": {"secretRef": {"name": "other-keys"}}}]
        },
    }
    cluster.apply(secret)
    cluster.apply(quota)
    cluster.kubectl("wait", "tq", "other", "--for=condition=Ready", "--timeout=30s")
    until(lambda: answers(cluster, key), 10, "the key works")
    return key


def test_a_policy_whose_secret_disappears_stops_working_at_once(
    cluster: Cluster, tenant: str
) -> None:
    cluster.kubectl("delete", "secret", "other-keys")

    until(lambda: not answers(cluster, tenant), 10, "the key is refused")
    said = until(
        lambda: (
            cluster.condition("tq", "other", "ResolvedRefs").startswith("False")
            and cluster.condition("tq", "other", "ResolvedRefs")
        ),
        10,
        "the condition says so",
    )
    assert "SecretNotFound" in said
    assert "other-keys" in said
    assert answers(cluster, KEY), "another tenant was hit"
    cluster.kubectl("delete", "tq", "other")


def test_a_policy_whose_secret_cannot_be_read_keeps_working_and_says_so(
    cluster: Cluster, tenant: str
) -> None:
    role = json.loads(cluster.kubectl("get", "clusterrole", WATCHED, "-o", "json"))
    rules = role["rules"]
    without = [rule for rule in rules if "secrets" not in rule.get("resources", ())]
    assert len(without) < len(rules)
    try:
        patch_rules(cluster, without)
        cluster.kubectl("annotate", "secret", "other-keys", "touched=yes")
        cluster.kubectl("label", "tq", "other", "touched=yes")
        said = until(
            lambda: (
                "SourceUnreadable" in (c := cluster.condition("tq", "other", "ResolvedRefs")) and c
            ),
            60,
            "the condition says so",
        )
        assert said.startswith("Unknown")
        assert answers(cluster, tenant)
    finally:
        patch_rules(cluster, rules)
    until(lambda: cluster.condition("tq", "other", "ResolvedRefs").startswith("True"), 90, "healed")
    cluster.kubectl("delete", "tq", "other")
    cluster.kubectl("delete", "secret", "other-keys")
    until(lambda: not answers(cluster, tenant), 10, "the key is refused")


def patch_rules(cluster: Cluster, rules: list[dict[str, object]]) -> None:
    patch = json.dumps({"rules": rules})
    cluster.kubectl("patch", "clusterrole", WATCHED, "--type=merge", "-p", patch)


def test_two_policies_that_claim_one_name_are_told_apart(cluster: Cluster) -> None:
    def policy(name: str) -> dict[str, object]:
        return {
            "apiVersion": "headgate.dev/v1alpha1",
            "kind": "RoutingPolicy",
            "metadata": {"name": name},
            "spec": {
                "models": ["shared-name"],
                "routes": [{"name": "only", "targets": [{"modelRef": {"name": MODEL}}]}],
            },
        }

    cluster.apply(policy("first"))
    cluster.kubectl("wait", "rpol", "first", "--for=condition=Ready", "--timeout=30s")
    cluster.apply(policy("second"))
    said = until(lambda: cluster.condition("rpol", "second", "Accepted"), 30, "a verdict")
    assert said.startswith("False ModelNameConflict")
    assert "first" in said
    cluster.kubectl("delete", "rpol", "first")
    cluster.kubectl("wait", "rpol", "second", "--for=condition=Ready", "--timeout=30s")
    cluster.kubectl("delete", "rpol", "second")


def test_a_model_that_fits_no_node_says_which_nodes_there_are(cluster: Cluster) -> None:
    cluster.apply(
        {
            "apiVersion": "headgate.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "misfit"},
            "spec": {
                "variants": [
                    {
                        "name": "fp8",
                        "quantization": "fp8",
                        "source": {"uri": "hf://a/b@main"},
                        "gpu": {"products": ["NVIDIA-L40S"]},
                    }
                ]
            },
        }
    )
    said = until(lambda: cluster.condition("mdep", "misfit", "NodesSuited"), 30, "a verdict")
    cluster.kubectl("delete", "mdep", "misfit")
    assert said.startswith("False NoSuitedNode")
    assert "there are nodes with 8 x NVIDIA-H100-80GB-HBM3" in said
    until(lambda: not cluster.all("deployments", "headgate.dev/model=misfit"), 30, "nothing left")


def test_no_free_gpu_is_said_and_not_a_silent_hang(cluster: Cluster) -> None:
    cluster.apply(
        {
            "apiVersion": "headgate.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "greedy"},
            "spec": {
                "variants": [
                    {
                        "name": "bf16",
                        "source": {"uri": "hf://a/b@main"},
                        "gpu": {"count": 8},  # all of the node, and others have some
                        "parallelism": {"tensor": 8},
                    }
                ]
            },
        }
    )
    until(
        lambda: cluster.condition("mdep", "greedy", "Progressing").startswith(
            "True InsufficientGPU"
        ),
        60,
        "InsufficientGPU",
    )
    ready = cluster.condition("mdep", "greedy", "Ready")
    cluster.kubectl("delete", "mdep", "greedy")
    assert ready.startswith("Unknown InsufficientGPU")
