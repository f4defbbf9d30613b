from collections.abc import Mapping
from typing import Any

import pytest

from headgate_controllers.contract import Document, Key, Unreadable, key_of

from .models import (
    A100,
    BAD,
    FOUND,
    GOOD,
    H100,
    HF,
    SUITED,
    TEMPLATE,
    TEMPLATE_MAP,
    TEMPLATED,
    all_ready,
    children,
    made,
    sizes,
    spec,
    variant,
    world_with,
)
from .world import World, body, told

REFUSED = (
    (
        spec(variant(quantization="fp8", gpu={"products": [A100]})),
        (
            'PrecisionUnsupported: spec.variants[bf16].quantization: "fp8" does not run on '
            f'gpu.products "{A100}" (compute capability 8.0); it needs 8.9 (Ada) or newer'
        ),
    ),
    (
        spec(variant(quantization="int4-awq", gpu={"computeCapabilities": ["10.0"]})),
        (
            'PrecisionUnsupported: spec.variants[bf16].quantization: "int4-awq" does not run on '
            'gpu.computeCapabilities "10.0"; it needs 8.0 (Ampere) to 9.0 (Hopper)'
        ),
    ),
    (
        spec(variant(gpu={"products": ["NVIDIA-H1OO"]})),
        (
            'UnknownGPUClass: spec.variants[bf16].gpu.products: "NVIDIA-H1OO" is unknown; '
            f"nodes here have {H100}"
        ),
    ),
    (
        spec(runtime={"type": "triton-python"}),
        (
            f'SourceInvalid: spec.variants[bf16].source.uri: "{HF}" is a checkpoint; '
            "triton-python needs a model repository: pvc://claim/path or file:///path"
        ),
    ),
    (
        spec(model={"chatTemplate": {"inline": "{% if %}"}}),
        (
            "TemplateInvalid: spec.model.chatTemplate.inline: "
            "line 1: Expected an expression, got 'end of statement block'"
        ),
    ),
    (
        spec(replicas=-1),
        (
            "SpecInvalid: spec.replicas: Invalid value: -1: "
            "Input should be greater than or equal to 0"
        ),
    ),
)


@pytest.mark.parametrize(("bad", "sentence"), REFUSED, ids=range(len(REFUSED)))
class TestRefusal:
    def test_at_first_nothing_is_made(self, bad: dict[str, Any], sentence: str) -> None:
        world, key = world_with(bad)
        plan = world.settle(key)
        reason = sentence.partition(":")[0]
        assert (
            f"Accepted=False {sentence}",
            f"Available=False {reason}: no replica answers",
            (f"Progressing=False {reason}: nothing changes until the spec is accepted"),
            f"Ready=False {sentence}",
        ) == told(plan)
        assert ((), (), (), None) == (plan.wanted, plan.scaled, plan.unwanted, plan.entry)

    def test_what_serves_keeps_serving(self, bad: dict[str, Any], sentence: str) -> None:
        world, key = world_with(spec(replicas=2))
        all_ready(world, key)
        good, before = world.in_force[key], made(world)
        world.apply("ModelDeployment", "llama", {"replicas": 2, **bad})
        plan = world.settle(key)

        assert f"Accepted=False {sentence}" == told(plan)[0]
        assert f"Ready=False {sentence}" == told(plan)[-1]
        assert any(mark.startswith("Available=True") for mark in told(plan))
        assert (good, before) == (plan.entry, made(world))


UNFIT = REFUSED[0][1]


class TestLastAccepted:
    """A bad edit: the spec that was accepted last is still carried out."""

    def edited(self, first: Mapping[str, Any], bad: Mapping[str, Any]) -> tuple[World, Key]:
        world, key = world_with(first)
        all_ready(world, key)
        world.apply("ModelDeployment", "llama", bad)
        return world, key

    def test_conditions_tell_of_both(self) -> None:
        world, key = self.edited(spec(replicas=2), BAD)
        plan = world.settle(key)

        def of_1(mark: str) -> str:
            return mark.replace(": ", ": generation 1, accepted last: ", 1)

        assert (
            f"Accepted=False {UNFIT}",
            of_1(FOUND),
            of_1(SUITED),
            of_1("Available=True MinimumReplicasReady: 2 replicas answer"),
            of_1("Progressing=False RolloutComplete: all 2 replicas answer"),
            f"Ready=False {UNFIT}",
        ) == told(plan)
        assert (2, 2) == (plan.status["observedGeneration"], plan.status["readyReplicas"])
        assert plan.entry is not None
        assert 1 == plan.entry.generation
        assert {"PrecisionUnsupported"} == {str(note.reason) for note in plan.notes}

    @pytest.mark.parametrize("kind", ["Deployment", "Service", "ConfigMap", "NetworkPolicy"])
    def test_a_child_that_somebody_deletes_comes_back(self, kind: str) -> None:
        world, key = self.edited(spec(replicas=2), BAD)
        before = made(world)
        (child,) = world.all(kind)
        del world.objects[key_of(child)]
        world.settle(key)
        assert before == made(world)

    def test_scaling_and_suspending_act_all_the_same(self) -> None:
        world, key = self.edited(spec(replicas=2), BAD)
        world.apply("ModelDeployment", "llama", BAD | {"replicas": 3})
        world.settle(key)
        assert [3] == list(sizes(world).values())
        world.apply("ModelDeployment", "llama", BAD | {"suspend": True})
        assert body(world.settle(key)).suspended
        assert [0] == list(sizes(world).values())
        assert 1 == len(children(world, "ControllerRevision"))

    def test_a_good_edit_acts_again(self) -> None:
        world, key = self.edited(spec(replicas=2), BAD)
        world.settle(key)
        world.apply("ModelDeployment", "llama", spec(runtime={"image": "triton:2"}))
        plan = world.settle(key)
        assert GOOD == told(plan)[0]
        assert plan.entry is not None
        assert (3, 2) == (plan.entry.generation, len(sizes(world)))

    def test_a_placement_elsewhere_stays(self) -> None:
        elsewhere = {"placement": {"regions": [{"name": "us"}]}}
        world, key = self.edited(spec(**elsewhere), BAD)
        plan = world.settle(key)
        assert plan.entry is None
        assert [] == children(world, "Deployment")
        assert "Available=False NotPlacedHere: generation 1, accepted last: " in told(plan)[1]

    def test_its_own_references_count(self) -> None:
        world, key = world_with(TEMPLATED)
        world.documents[TEMPLATE_MAP] = Document({"chat": TEMPLATE.encode()})
        all_ready(world, key)
        world.in_force.clear()  # the snapshot is lost, too
        world.apply("ModelDeployment", "llama", BAD)
        assert TEMPLATE == body(world.settle(key)).chat_template

    @pytest.mark.parametrize("found", [Unreadable("timeout"), Document({})], ids=repr)
    def test_without_the_old_spec_nothing_changes(self, found: Any) -> None:
        world, key = self.edited(spec(replicas=2), BAD)
        good = world.in_force[key]
        (revision,) = world.all("ControllerRevision")
        world.documents[key_of(revision)] = found
        plan = world.settle(key)

        assert (
            f"Accepted=False {UNFIT}",
            "Available=True MinimumReplicasReady: 2 replicas answer",
            "Progressing=False PrecisionUnsupported: nothing changes until the spec is accepted",
            f"Ready=False {UNFIT}",
        ) == told(plan)
        assert ((), (), (), good) == (plan.wanted, plan.scaled, plan.unwanted, plan.entry)

    def test_the_last_three_are_kept_and_one_that_comes_again_is_the_newest(self) -> None:
        world, key = world_with(spec())
        world.settle(key)

        def accept(image: str) -> list[int]:
            world.apply("ModelDeployment", "llama", spec(runtime={"image": image}))
            world.settle(key)
            return sorted(it["revision"] for it in world.all("ControllerRevision"))

        assert [[1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]] == [
            accept(i) for i in ("b", "c", "d", "b")
        ]
        world.apply("ModelDeployment", "llama", BAD)
        assert {"b"} <= {
            m["spec"]["template"]["spec"]["containers"][0]["image"]
            for m in world.settle(key).wanted
            if m["kind"] == "Deployment"
        }

    def test_replicas_make_no_revision(self) -> None:
        world, key = world_with(spec())
        world.settle(key)
        before = children(world, "ControllerRevision")
        world.apply("ModelDeployment", "llama", spec(replicas=5))
        world.settle(key)
        assert before == children(world, "ControllerRevision")
