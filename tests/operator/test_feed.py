from dataclasses import dataclass, field
from typing import Any, cast

from headgate_controllers.contract import Cache, Key, Manifest, key_of
from headgate_operator.feed import Feed
from headgate_operator.store import Store

from .fakes import MODEL_KIND, MODELS, TENANTS, deployment, model

LLAMA = Key(MODEL_KIND, "chat", "llama")


@dataclass
class Scene:
    store: Store = field(default_factory=Store)
    woken: list[Key] = field(default_factory=list)
    heard: list[Key] = field(default_factory=list)
    feed: Feed = field(init=False)

    def __post_init__(self) -> None:
        queues = {kind: cast(Any, self) for kind in (MODEL_KIND, "TenantQuota")}
        view = cast(Cache, self.store)
        self.feed = Feed(self.store, view, (MODELS, TENANTS), queues, hears=self.heard.append)

    def add_after(self, key: Key, seconds: float) -> None:
        self.woken.append(key)


def versioned(manifest: Manifest, version: int, uid: str = "u") -> Manifest:
    meta = manifest["metadata"] | {"uid": uid, "resourceVersion": str(version)}
    return {**manifest, "metadata": meta}


OWNER = versioned(model("llama", "chat"), 1)
CHILD = versioned(deployment(OWNER), 2, uid="d")


def test_a_standby_knows_everything_and_wakes_nobody() -> None:
    scene = Scene()
    scene.feed.put(OWNER)
    assert ([], OWNER) == (scene.woken, scene.store.get(LLAMA))


def test_a_new_leader_looks_at_everything_and_at_what_is_still_in_force() -> None:
    scene = Scene()
    scene.feed.put(OWNER)
    gone = Key("TenantQuota", "chat", "gone")
    scene.feed.start([gone])
    assert [LLAMA, gone] == scene.woken


def test_a_child_wakes_its_owner_when_it_changes_and_when_it_goes() -> None:
    scene = Scene()
    scene.feed.awake = True
    scene.feed.put(CHILD)
    scene.feed.put(CHILD)
    assert [LLAMA] == scene.woken
    scene.feed.gone(key_of(CHILD), "another uid")
    assert [LLAMA] == scene.woken
    scene.feed.gone(key_of(CHILD), "d")
    assert [LLAMA, LLAMA] == scene.woken


def test_our_own_write_wakes_everybody_but_the_one_who_wrote() -> None:
    scene = Scene()
    scene.feed.awake = True
    scene.feed.put(CHILD, but=LLAMA)
    assert ([], [key_of(CHILD)]) == (scene.woken, scene.heard)


def test_a_child_that_changes_hands_wakes_both_owners() -> None:
    scene = Scene()
    scene.feed.awake = True
    scene.feed.put(CHILD)
    taken = versioned(deployment(versioned(model("other", "chat"), 1)), 3, uid="d")
    scene.feed.put({**taken, "metadata": {**taken["metadata"], "name": "llama"}})
    assert {LLAMA, LLAMA._replace(name="other")} == set(scene.woken)
