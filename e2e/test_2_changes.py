"""What changes while clients stream: replicas, revisions, pods, the operator itself."""

import json
from typing import Any

import pytest

from e2e.harness import MODEL, Cluster, load, until

pytestmark = pytest.mark.cluster
PODS = f"headgate.dev/model={MODEL}"


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def ready_pods(cluster: Cluster) -> list[str]:
    return [pod["metadata"]["name"] for pod in cluster.pods(PODS) if ready(pod)]


def change_source(cluster: Cluster, uri: str) -> None:
    found = cluster.get("mdep", MODEL)
    variants = found["spec"]["variants"]
    variants[0]["source"]["uri"] = uri
    cluster.kubectl(
        "patch", "mdep", MODEL, "--type=merge", "-p", json.dumps({"spec": {"variants": variants}})
    )


def settled(cluster: Cluster, replicas: int) -> None:
    """One cohort is left, with all its pods, and the object is Ready for its newest generation."""

    def check() -> bool:
        deployments = cluster.all("deployments", PODS)
        ready_now = cluster.condition("mdep", MODEL, "Ready").startswith("True")
        return len(deployments) == 1 and replicas == len(ready_pods(cluster)) and ready_now

    until(check, 180, f"{replicas} pods of one cohort")


def test_kubectl_scale_adds_and_removes_pods(cluster: Cluster) -> None:
    with load(cluster) as streams:
        cluster.kubectl("scale", "mdep", MODEL, "--replicas=3")
        settled(cluster, 3)
        streams.more(4)
        cluster.kubectl("scale", "mdep", MODEL, "--replicas=2")
        settled(cluster, 2)
        streams.more(4)
    assert {} == dict(streams.failures)


def test_a_new_source_takes_over_without_a_failed_stream(cluster: Cluster) -> None:
    before = {d["metadata"]["name"] for d in cluster.all("deployments", PODS)}
    least = [2]

    def watch_and_settle() -> bool:
        least[0] = min(least[0], len(ready_pods(cluster)))
        after = {d["metadata"]["name"] for d in cluster.all("deployments", PODS)}
        done = len(after) == 1 and after.isdisjoint(before)
        return done and cluster.condition("mdep", MODEL, "Ready").startswith("True")

    with load(cluster) as streams:
        change_source(cluster, "hf://meta-llama/Llama-3.1-8B-Instruct@next")
        until(watch_and_settle, 240, "the new revision alone")
        streams.more(8)
    assert {} == dict(streams.failures)
    assert 2 == least[0], "there were fewer ready pods than wanted"


def test_ten_pods_deleted_one_after_another_fail_no_stream(cluster: Cluster) -> None:
    with load(cluster) as streams:
        for _ in range(10):
            victim = ready_pods(cluster)[0]
            cluster.kubectl("delete", "pod", victim, "--wait=false")
            until(
                lambda gone=victim: (
                    gone not in ready_pods(cluster)  # type: ignore[misc]
                    and len(ready_pods(cluster)) == 2
                ),
                90,
                "a replacement",
            )
    assert {} == dict(streams.failures)
    assert streams.finished >= 10


def operators(cluster: Cluster) -> list[str]:
    pods = cluster.pods("headgate.dev/part=operator")
    return [pod["metadata"]["name"] for pod in pods if ready(pod)]


def leader(cluster: Cluster) -> str:
    return str(cluster.get("lease", "headgate-operator")["spec"]["holderIdentity"])


def test_an_operator_killed_in_the_middle_of_a_change_ends_it_right(cluster: Cluster) -> None:
    with load(cluster) as streams:
        change_source(cluster, "hf://meta-llama/Llama-3.1-8B-Instruct@third")
        until(lambda: len(cluster.all("deployments", PODS)) == 2, 60, "the change has begun")
        for pod in operators(cluster):
            cluster.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        settled(cluster, 2)
    assert {} == dict(streams.failures)


def test_when_the_leader_is_killed_the_other_operator_takes_over(cluster: Cluster) -> None:
    deployment = "deployment/headgate-operator"
    cluster.kubectl("scale", deployment, "--replicas=2")
    until(lambda: len(operators(cluster)) == 2, 90, "two operators are ready")
    first = leader(cluster)
    assert any(first.startswith(pod) for pod in operators(cluster))
    victim = next(pod for pod in operators(cluster) if first.startswith(pod))
    cluster.kubectl("delete", "pod", victim, "--grace-period=0", "--force")

    until(lambda: leader(cluster) not in {"", first}, 60, "another leader")
    cluster.kubectl("scale", "mdep", MODEL, "--replicas=1")
    settled(cluster, 1)
    cluster.kubectl("scale", "mdep", MODEL, "--replicas=2")
    settled(cluster, 2)
    cluster.kubectl("scale", deployment, "--replicas=1")
    until(lambda: len(operators(cluster)) == 1, 60, "one operator again")
