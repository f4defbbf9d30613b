from dataclasses import dataclass, field
from typing import Any

from headgate_controllers.contract import Key, Manifest
from headgate_operator.prober import Prober
from headgate_operator.store import Store

from .fakes import FakeProbe

POD = Key("Pod", "chat", "llama-0")


@dataclass
class Scene:
    probe: FakeProbe = field(default_factory=FakeProbe)
    store: Store = field(default_factory=Store)
    queued: list[str] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    prober: Prober = field(init=False)
    versions: int = 0

    def __post_init__(self) -> None:
        self.prober = Prober(self.store, self, self.probe, self.wake)

    def put(self, *, ready: bool = True, restarts: int = 0, uid: str = "u1") -> None:
        self.versions += 1
        meta: dict[str, Any] = {"name": "llama-0", "namespace": "chat", "uid": uid}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta | {"resourceVersion": str(self.versions)},
            "status": {
                "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": str(ready)}],
                "containerStatuses": [{"restartCount": restarts}],
            },
        }
        self.store.put(pod)
        self.prober.heard(POD)

    def wake(self, pod: Manifest) -> None:
        self.woken.append(pod["metadata"]["name"])

    # The queue.

    def add(self, key: Key) -> None:
        self.queued.append("add")

    def retry(self, key: Key, *, not_before: float | None = None) -> None:
        self.queued.append("retry")

    def forget(self, key: Key) -> None:
        self.queued.append("forget")


async def test_a_pod_that_is_not_ready_is_left_alone() -> None:
    scene = Scene()
    scene.put(ready=False)
    assert ([], None) == (scene.queued, scene.prober.answered("u1"))


async def test_a_pod_that_turned_ready_is_asked_once_and_wakes_its_model() -> None:
    scene = Scene()
    scene.put()
    await scene.prober.run(POD)
    scene.put()
    scene.put(ready=False)
    scene.put()
    assert ["add", "forget"] == scene.queued
    assert ("", ["llama-0"]) == (scene.prober.answered("u1"), scene.woken)


async def test_a_pod_whose_container_started_again_must_answer_again() -> None:
    scene = Scene()
    scene.put()
    await scene.prober.run(POD)
    scene.put(restarts=1)
    assert scene.prober.answered("u1") is None
    assert ["add", "forget", "add"] == scene.queued


async def test_a_pod_that_does_not_answer_says_why_and_is_asked_again() -> None:
    scene = Scene(FakeProbe("the model is broken"))
    scene.put()
    await scene.prober.run(POD)
    assert "the model is broken" == scene.prober.answered("u1")
    await scene.prober.run(POD)
    assert ["add", "retry", "retry"] == scene.queued
    assert ["llama-0"] == scene.woken

    scene.probe.why_not = ""
    await scene.prober.run(POD)
    assert "" == scene.prober.answered("u1")
    assert ["llama-0"] * 2 == scene.woken


async def test_a_pod_that_took_the_name_of_another_starts_anew() -> None:
    scene = Scene()
    scene.put()
    await scene.prober.run(POD)
    scene.put(uid="u2")
    assert (None, None) == (scene.prober.answered("u1"), scene.prober.answered("u2"))


async def test_a_pod_that_is_gone_is_forgotten() -> None:
    scene = Scene()
    scene.put()
    await scene.prober.run(POD)
    scene.store.drop(POD)
    scene.prober.heard(POD)
    assert scene.prober.answered("u1") is None
    await scene.prober.run(POD)
    assert ["llama-0"] == scene.probe.asked


async def test_a_pod_that_died_during_its_probe_leaves_no_answer() -> None:
    scene = Scene()
    scene.put()

    async def dies(pod: Manifest) -> None:
        scene.store.drop(POD)
        scene.prober.heard(POD)

    scene.prober.probe = dies
    await scene.prober.run(POD)
    assert scene.prober.answered("u1") is None
    assert [] == scene.woken
