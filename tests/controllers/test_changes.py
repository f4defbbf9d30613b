"""Changes from their beginning to their end, told as stories."""

import re
from pathlib import Path

import pytest

from headgate_api.labels import COHORT
from headgate_controllers.contract import Key, key_of

from .models import BAD, all_ready, children, sizes, spec, variant, world_with
from .world import NAMESPACE, World, told

GOLDEN = Path(__file__).parent / "modeldeployment" / "golden"


def story(world: World, key: Key, *, gpus: int = 1000, wait: bool = True) -> str:
    """Run a change to its end, one ready pod at a time, and tell what happened."""
    lines = []
    for step in range(1, 30):
        before = sizes(world)
        plan = world.settle(key)
        after = sizes(world)
        lines.append(f"- Pass {step}: {told(plan)[-2]}")
        for name in dict.fromkeys((*before, *after)):  # the older one first
            was, now = before.get(name), after.get(name)
            if was != now:
                lines.append(f"  - {name}: {'made with' if was is None else f'{was} ->'} "
                             f"{'deleted' if now is None else now}")  # fmt: skip
        lines += [f"  - Event: {note.reason}" for note in plan.notes]
        world.run_pods(gpus=gpus)
        waiting = [pod for pod in world.pods() if not pod["status"]["conditions"]]
        if waiting and wait:
            world.passes(60)
            world.turn_ready(waiting[0])
            lines.append(
                f"- A pod of {waiting[0]['metadata']['labels']['headgate.dev/cohort']} answers"
            )
        elif before == after:
            return _by_order("\n".join(lines) + "\n")
    raise AssertionError("the story has no end:\n" + "\n".join(lines))


def _by_order(text: str) -> str:
    """Write revisions as r1, r2, so that a story does not depend on what is in the pods."""
    revisions = dict.fromkeys(re.findall(r"-([0-9a-f]{8})\b", text))
    for number, revision in enumerate(sorted(revisions, key=text.index), 1):
        text = text.replace(revision, f"r{number}")
    return text


STORIES = {
    "change of the image, 3 replicas": (
        spec(replicas=3), spec(replicas=3, runtime={"image": "triton:2"}), 1000,
    ),
    "change of the image, 2 replicas, no free GPU": (
        spec(replicas=2), spec(replicas=2, runtime={"image": "triton:2"}), 2,
    ),
    "change and scale up at once": (
        spec(replicas=1), spec(replicas=3, runtime={"image": "triton:2"}), 1000,
    ),
    "one variant takes over from another": (
        spec(replicas=2), spec(variant("fp8", quantization="fp8"), replicas=2), 1000,
    ),
    "suspend": (spec(replicas=2), spec(replicas=2, suspend=True), 1000),
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_stories(name: str) -> None:
    """Compare with the golden files; delete one and run the test to have it written anew."""
    first, then, gpus = STORIES[name]
    world, key = world_with(first)
    all_ready(world, key)
    world.apply("ModelDeployment", "llama", then)
    told_now = story(world, key, gpus=gpus)
    golden = GOLDEN / f"{name}.golden"
    if not golden.exists():
        golden.write_text(told_now)
    assert golden.read_text() == told_now


def test_a_rollback_in_the_middle_of_a_change_goes_back_to_the_pods_that_are_there() -> None:
    world, key = world_with(spec(replicas=2))
    all_ready(world, key)
    (old,) = children(world, "Deployment")
    world.apply("ModelDeployment", "llama", spec(replicas=2, runtime={"image": "triton:2"}))
    world.settle(key)
    world.run_pods()
    world.apply("ModelDeployment", "llama", spec(replicas=2))
    all_ready(world, key)

    assert {old: 2} == sizes(world)
    assert key_of(world.objects[key]) == key


def test_a_change_goes_on_under_a_bad_edit() -> None:
    world, key = world_with(spec(replicas=2))
    all_ready(world, key)
    world.apply("ModelDeployment", "llama", spec(replicas=2, runtime={"image": "triton:2"}))
    world.settle(key)
    world.apply("ModelDeployment", "llama", BAD)
    told_now = story(world, key)
    golden = GOLDEN / "a bad edit in the middle of a change.golden"
    if not golden.exists():
        golden.write_text(told_now)
    assert golden.read_text() == told_now


def test_a_broken_revision_that_holds_every_gpu_can_be_replaced() -> None:
    world, key = world_with(spec(replicas=2, runtime={"image": "triton:broken"}))
    world.settle(key)
    world.run_pods(gpus=2)  # both pods run, and never get ready
    world.apply("ModelDeployment", "llama", spec(replicas=2))
    for _ in range(12):
        world.settle(key)
        world.run_pods(gpus=2)
        for pod in world.pods():
            image = world.objects[Key("Deployment", NAMESPACE, pod["metadata"]["labels"][COHORT])][
                "spec"
            ]["template"]["spec"]["containers"][0]["image"]
            if image == "triton:1" and not pod["status"]["conditions"]:
                world.turn_ready(pod)

    assert [2] == list(sizes(world).values())
    assert "Ready=True ProbeAnswered: all 2 replicas answer" == told(world.settle(key))[-1]
