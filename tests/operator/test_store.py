import json
from typing import Any

import pytest

from headgate_api.labels import MODEL_UID
from headgate_controllers.contract import Key, Manifest
from headgate_operator.store import LAST_APPLIED, Store


def pod(version: int, *, uid: str = "p1", model: str = "m1", **more: Any) -> Manifest:
    meta = {"name": "llama-0", "namespace": "chat", "uid": uid, "resourceVersion": str(version)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta | {"labels": {MODEL_UID: model}},
        "spec": {"nodeName": "n", "containers": [{"name": "server", "image": "large"}]},
        "status": {"phase": "Running"},
    } | more


POD = Key("Pod", "chat", "llama-0")


@pytest.mark.parametrize(
    ("given", "news", "phase"),
    [
        (pod(2, status={"phase": "Failed"}), True, "Failed"),
        (pod(1), False, "Running"),
        (pod(0, status={"phase": "Pending"}), False, "Running"),
        (pod(0, uid="p2", status={"phase": "Pending"}), True, "Pending"),
    ],
    ids=["newer", "the same", "older than our own write", "another object with the name"],
)
def test_only_news_is_taken(given: Manifest, news: bool, phase: str) -> None:
    store = Store()
    store.put(pod(1))
    assert news is store.put(given)
    found = store.get(POD)
    assert found is not None
    assert phase == found["status"]["phase"]


def test_what_nothing_decides_from_is_not_kept() -> None:
    store = Store()
    store.put(pod(1))
    found = store.get(POD)
    assert found is not None
    assert {"nodeName": "n"} == found["spec"]


def test_what_is_the_same_in_many_objects_is_kept_once() -> None:
    store = Store()
    for number in (1, 2):  # as two answers of the API server, which share nothing
        store.put(json.loads(json.dumps(pod(number, uid=f"p{number}") | {"kind": f"Kind{number}"})))
    first, second = (store.get(POD._replace(kind=f"Kind{number}")) for number in (1, 2))
    assert first is not None
    assert second is not None
    assert first["status"]["phase"] is second["status"]["phase"]
    for one, other in zip(first["metadata"], second["metadata"], strict=True):
        assert one is other


def test_neither_data_of_a_secret_nor_kubectls_copy_is_kept() -> None:
    store = Store()
    noted = {LAST_APPLIED: "{}", "mine": "kept"}
    store.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s", "namespace": "chat", "uid": "s1", "resourceVersion": "1"}
            | {"annotations": noted},
            "data": {"key": "c2VjcmV0"},
        }
    )
    found = store.get(Key("Secret", "chat", "s"))
    assert found is not None
    assert {"apiVersion", "kind", "metadata"} == set(found)
    assert {"mine": "kept"} == found["metadata"]["annotations"]


def node(version: int, stamp: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n", "uid": "n1", "resourceVersion": str(version), "labels": {}},
        "status": {"conditions": [{"lastHeartbeatTime": stamp}], "allocatable": {"cpu": "4"}},
    }


def test_the_heartbeat_of_a_node_is_no_news() -> None:
    store = Store()
    assert store.put(node(1, "10:00"))
    assert not store.put(node(2, "10:05"))


def test_pods_are_found_by_their_label_as_a_replica_set_owns_them() -> None:
    store = Store()
    store.put(pod(1))
    assert ["llama-0"] == [m["metadata"]["name"] for m in store.owned("Pod", "m1")]
    store.put(pod(2, model="m2"))
    assert [] == list(store.owned("Pod", "m1"))
    assert store.drop(POD, "another uid") is None
    assert store.drop(POD, "p1") is not None
    assert [] == list(store.owned("Pod", "m2"))


def test_objects_are_found_by_the_words_of_their_index() -> None:
    store = Store({"TenantQuota": lambda manifest: [f"tenant/{manifest['spec']['tenant']}"]})

    def quota(name: str, version: int, tenant: str) -> Manifest:
        meta = {"name": name, "namespace": "chat", "uid": name, "resourceVersion": str(version)}
        return {
            "apiVersion": "headgate.dev/v1alpha1",
            "kind": "TenantQuota",
            "metadata": meta,
            "spec": {"tenant": tenant},
        }

    def names(word: str) -> list[str]:
        return [m["metadata"]["name"] for m in store.find("TenantQuota", word)]

    store.put(quota("b", 1, "acme"))
    store.put(quota("a", 2, "acme"))
    assert ["a", "b"] == names("tenant/acme")
    store.put(quota("b", 3, "other"))
    assert (["a"], ["b"]) == (names("tenant/acme"), names("tenant/other"))


def test_nothing_is_left_of_a_namespace_that_is_empty() -> None:
    """Previews and tests come and go with theirs; asking for one makes none either."""
    store = Store()
    meta = {"name": "a", "namespace": "preview", "uid": "u", "resourceVersion": "1"}
    store.put({"apiVersion": "v1", "kind": "Service", "metadata": meta})
    store.drop(Key("Service", "preview", "a"))
    assert store.get(Key("Service", "other", "a")) is None
    assert [] == [*store.all("Service", "another")]
    assert {} == store._kinds["Service"]
