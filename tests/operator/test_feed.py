from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from headgate_api.errors import Unavailable
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


def known(scene: Scene) -> Manifest:
    found = scene.store.get(key_of(CHILD))
    assert found is not None
    return found


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
    scene.feed.wrote(CHILD, by=LLAMA)
    assert ([], [key_of(CHILD)]) == (scene.woken, scene.heard)


def test_what_is_told_of_our_own_write_before_its_answer_wakes_nobody() -> None:
    scene = Scene()
    scene.feed.awake = True
    with scene.feed.writing(key_of(CHILD)):
        scene.feed.put(CHILD)
        assert scene.store.get(key_of(CHILD)) is None
        scene.feed.wrote(CHILD, by=LLAMA)
    assert ([], CHILD["metadata"]) == (scene.woken, known(scene)["metadata"])


@pytest.mark.parametrize("other", [3, 5], ids=["before", "after"])
def test_what_somebody_else_does_while_we_write_wakes_the_writer(other: int) -> None:
    """Our answer has their change in it, which this pass has not seen."""
    scene = Scene()
    scene.feed.put(CHILD)
    scene.feed.awake = True
    edited, ours = versioned(CHILD, other, uid="d"), versioned(CHILD, 4, uid="d")
    with scene.feed.writing(key_of(CHILD)):
        scene.feed.put(edited)
        scene.feed.wrote(ours, by=LLAMA)
    assert [LLAMA, LLAMA] == scene.woken  # for the version before and the one after
    assert str(max(other, 4)) == known(scene)["metadata"]["resourceVersion"]


def test_what_is_told_while_a_write_fails_is_news_as_ever() -> None:
    scene = Scene()
    scene.feed.awake = True
    with suppress(Unavailable), scene.feed.writing(key_of(CHILD)):
        scene.feed.put(CHILD)
        raise Unavailable("away")
    assert [LLAMA] == scene.woken


def test_a_child_that_goes_while_we_write_it_is_not_there_afterwards() -> None:
    scene = Scene()
    scene.feed.awake = True
    with scene.feed.writing(key_of(CHILD)):
        scene.feed.gone(key_of(CHILD), "d")
        scene.feed.wrote(CHILD, by=LLAMA)
    assert ([LLAMA], None) == (scene.woken, scene.store.get(key_of(CHILD)))


def test_a_child_that_changes_hands_wakes_both_owners() -> None:
    scene = Scene()
    scene.feed.awake = True
    scene.feed.put(CHILD)
    taken = versioned(deployment(versioned(model("other", "chat"), 1)), 3, uid="d")
    scene.feed.put({**taken, "metadata": {**taken["metadata"], "name": "llama"}})
    assert {LLAMA, LLAMA._replace(name="other")} == set(scene.woken)
