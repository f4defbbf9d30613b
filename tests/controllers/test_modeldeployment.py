import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headgate_api.labels import COHORT, MODEL_SERVER, PART
from headgate_api.snapshot import Cohort
from headgate_controllers.contract import Document, Environment, Key, Unreadable, key_of

from .world import NAMESPACE, World, body, told

GOLDEN = Path(__file__).parent / "modeldeployment" / "golden"
GOOD = "Accepted=True SpecAccepted: the spec makes sense here"
FOUND = "ResolvedRefs=True RefsResolved: everything that the object names was found"
SUITED = "NodesSuited=True NodesFound: every variant has a node that could run it"
NOBODY = "Available=False ReplicasMissing: no replica answers"
HF = "hf://meta-llama/Llama-3.1-8B@main"
H100, A100 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB"


def variant(name: str = "bf16", uri: str = HF, **more: Any) -> dict[str, Any]:
    return {"name": name, "source": {"uri": uri}, **more}


def spec(*variants: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"variants": list(variants) or [variant()], **more}


def world_with(spec: Mapping[str, Any], **env: Any) -> tuple[World, Key]:
    world = World(env=Environment(**{"region": "eu", "image": "triton:1", "namespace": "hg"} | env))
    world.node("n1", H100, "9.0")
    return world, world.apply("ModelDeployment", "llama", spec)


def all_ready(world: World, key: Key) -> None:
    """Run passes until nothing changes, with every pod ready at once."""
    for _ in range(20):
        world.settle(key)
        world.run_pods()
        for pod in world.pods():
            if not pod["status"]["conditions"]:
                world.passes(1)
                world.turn_ready(pod)


def children(world: World, kind: str) -> list[str]:
    return sorted(m["metadata"]["name"] for m in world.all(kind))


def made(world: World) -> dict[Key, Any]:
    """The children's specs."""
    kinds = {"ModelDeployment", "Node", "Pod"}
    return {key: m.get("spec", m.get("data")) for key, m in world.objects.items()
            if key.kind not in kinds}  # fmt: skip


def sizes(world: World) -> dict[str, int]:
    return {m["metadata"]["name"]: m["spec"]["replicas"] for m in world.all("Deployment")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    given: str
    spec: Mapping[str, Any] = field(default_factory=spec)
    ready: int = 0
    answer: str | None = ""
    gpus: int = 8
    then: tuple[str, ...]

    def __str__(self) -> str:
        return f"given {self.given}, then {self.then[-1]}"


NO_ANSWER = "variant bf16: a ready pod did not answer the probe: connection reset"
NO_GPU = "variant bf16: a pod waits, because no suited node has a free GPU"
SUSPENDED = "Suspended: spec.suspend is true: no pods, clients get 503"
CASES = (
    Case(
        given="no pod is ready yet",
        then=(
            GOOD,
            FOUND,
            SUITED,
            NOBODY,
            "Progressing=True Scaling: 0 of 1 replicas answer",
            "Ready=Unknown Starting: 0 of 1 replicas answer",
        ),
    ),
    Case(
        given="a ready pod that nobody has probed",
        ready=1,
        answer=None,
        then=(
            GOOD,
            FOUND,
            SUITED,
            NOBODY,
            "Progressing=True Scaling: 0 of 1 replicas answer",
            "Ready=Unknown Starting: 0 of 1 replicas answer",
        ),
    ),
    Case(
        given="a ready pod whose probe fails",
        ready=1,
        answer="connection reset",
        then=(
            GOOD,
            FOUND,
            SUITED,
            NOBODY,
            f"Progressing=True Scaling: 0 of 1 replicas answer; {NO_ANSWER}",
            f"Ready=False ProbeFailed: 0 of 1 replicas answer; {NO_ANSWER}",
        ),
    ),
    Case(
        given="one of two pods that answers",
        spec=spec(replicas=2),
        ready=1,
        then=(
            GOOD,
            FOUND,
            SUITED,
            "Available=True MinimumReplicasReady: 1 replica answers",
            "Progressing=True Scaling: 1 of 2 replicas answer",
            "Ready=Unknown Starting: 1 of 2 replicas answer",
        ),
    ),
    Case(
        given="all pods that answer",
        spec=spec(replicas=2),
        ready=2,
        then=(
            GOOD,
            FOUND,
            SUITED,
            "Available=True MinimumReplicasReady: 2 replicas answer",
            "Progressing=False RolloutComplete: all 2 replicas answer",
            "Ready=True ProbeAnswered: all 2 replicas answer",
        ),
    ),
    Case(
        given="a GPU too few",
        spec=spec(replicas=2),
        ready=1,
        gpus=1,
        then=(
            GOOD,
            FOUND,
            SUITED,
            "Available=True MinimumReplicasReady: 1 replica answers",
            f"Progressing=True InsufficientGPU: 1 of 2 replicas answer; {NO_GPU}",
            f"Ready=Unknown InsufficientGPU: 1 of 2 replicas answer; {NO_GPU}",
        ),
    ),
    Case(
        given="no node with the GPU class",
        spec=spec(variant(gpu={"products": [A100]})),
        then=(
            GOOD,
            FOUND,
            f"NodesSuited=False NoSuitedNode: variant bf16: no node has 1 x {A100}",
            NOBODY,
            "Progressing=True Scaling: 0 of 1 replicas answer",
            f"Ready=Unknown NoSuitedNode: variant bf16: no node has 1 x {A100}",
        ),
    ),
    Case(
        given="no node for the precision",
        spec=spec(variant(quantization="nvfp4")),
        then=(
            GOOD,
            FOUND,
            (
                "NodesSuited=False NoSuitedNode: variant bf16: no node has 1 x a GPU of compute "
                "capability 10.0 (Blackwell) or newer"
            ),
            NOBODY,
            "Progressing=True Scaling: 0 of 1 replicas answer",
            (
                "Ready=Unknown NoSuitedNode: variant bf16: no node has 1 x a GPU of compute "
                "capability 10.0 (Blackwell) or newer"
            ),
        ),
    ),
    Case(
        given="suspend",
        spec=spec(suspend=True),
        then=(
            GOOD,
            FOUND,
            SUITED,
            f"Available=False {SUSPENDED}",
            f"Progressing=False {SUSPENDED}",
            f"Ready=True {SUSPENDED}",
        ),
    ),
    Case(
        given="zero replicas",
        spec=spec(replicas=0),
        then=(
            GOOD,
            FOUND,
            SUITED,
            "Available=False ScaledToZero: 0 replicas are asked for",
            "Progressing=False ScaledToZero: 0 replicas are asked for",
            "Ready=True ScaledToZero: 0 replicas are asked for",
        ),
    ),
    Case(
        given="a placement elsewhere",
        spec=spec(placement={"regions": [{"name": "us"}]}),
        then=(
            GOOD,
            *(
                f"{condition} NotPlacedHere: "
                'spec.placement.regions does not name this region, "eu": nothing to do here'
                for condition in ("Available=False", "Progressing=False", "Ready=True")
            ),
        ),
    ),
    Case(
        given="a Secret that does not exist",
        spec=spec(runtime={"env": [{"name": "T", "secretKeyRef": {"name": "hf", "key": "token"}}]}),
        then=(
            GOOD,
            (
                "ResolvedRefs=False SecretNotFound: "
                'spec.runtime.env[T].secretKeyRef: there is no Secret "hf"'
            ),
            SUITED,
            NOBODY,
            "Progressing=True Scaling: 0 of 1 replicas answer",
            'Ready=False SecretNotFound: spec.runtime.env[T].secretKeyRef: there is no Secret "hf"',
        ),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conditions(case: Case) -> None:
    world, key = world_with(case.spec)
    world.settle(key)
    world.run_pods(gpus=case.gpus)
    for pod in world.pods()[: case.ready]:
        world.turn_ready(pod, answer=case.answer)
    plan = world.settle(key)

    assert case.then == told(plan)
    assert 1 == plan.status["observedGeneration"]


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


BAD = spec(variant(quantization="fp8", gpu={"products": [A100]}), replicas=2)
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
        world, key = world_with(TestTemplate.SPEC)
        template = TestTemplate.TEMPLATE
        world.documents[TestTemplate.CONFIG] = Document({"chat": template.encode()})
        all_ready(world, key)
        world.in_force.clear()  # the snapshot is lost, too
        world.apply("ModelDeployment", "llama", BAD)
        assert template == body(world.settle(key)).chat_template

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


class TestChildren:
    def test_the_children_of_a_model(self) -> None:
        world, key = world_with(spec())
        plan = world.settle(key)
        (cohort,) = children(world, "Deployment")

        assert [
            "ControllerRevision",
            "NetworkPolicy",
            "Service",
            "PodDisruptionBudget",
            "ConfigMap",
            "Deployment",
        ] == [child["kind"] for child in plan.wanted]
        assert [cohort] == children(world, "ConfigMap")
        assert {"llama"} == {m["metadata"]["name"] for m in plan.wanted[1:4]}
        owners = [m["metadata"]["ownerReferences"] for m in plan.wanted]
        assert {("llama", "uid-1", True)} == {
            (owner["name"], owner["uid"], owner["controller"]) for (owner,) in owners
        }
        # The operator's watches select children by this label: another one would not be seen.
        assert {MODEL_SERVER} == {m["metadata"]["labels"].get(PART) for m in plan.wanted}

    def test_the_name_of_a_cohort_is_its_content(self) -> None:
        names = set()
        for changed in (
            spec(),
            spec(runtime={"image": "triton:2"}),
            spec(runtime={"args": ["--log-verbose=1"]}),
            spec(runtime={"drainTimeout": "10s"}),
            spec(variant(engine={"maxBatchSize": 8})),
            spec(variant(quantization="fp8")),
            spec(variant(uri="pvc://weights/llama")),
            spec(pod={"annotations": {"a": "b"}}),
        ):
            world, key = world_with(changed)
            world.settle(key)
            names |= {*children(world, "Deployment")}
        assert 8 == len(names)

    @pytest.mark.parametrize(
        "changed",
        [
            spec(replicas=3),
            spec(model={"chatTemplate": {"inline": "{{ messages[-1].content }}"}}),
            spec(rollout={"progressDeadline": "2h"}),
        ],
    )
    def test_what_the_pods_do_not_know_makes_no_new_cohort(self, changed: dict[str, Any]) -> None:
        world, key = world_with(spec())
        world.settle(key)
        before = children(world, "Deployment")
        world.apply("ModelDeployment", "llama", changed)
        world.settle(key)
        assert before == children(world, "Deployment")

    def test_two_regions_give_one_spec_the_same_revision(self) -> None:
        (first, key), (second, _) = world_with(spec()), world_with(spec(), region="us")
        second.objects[key]["metadata"]["uid"] = "another"
        revisions = [w.settle(key).status["variants"][0]["revision"] for w in (first, second)]
        assert 1 == len(set(revisions))

    def test_a_placement_elsewhere_takes_everything_away(self) -> None:
        world, key = world_with(spec())
        all_ready(world, key)
        world.apply("ModelDeployment", "llama", spec(placement={"regions": [{"name": "us"}]}))
        for _ in range(3):
            plan = world.settle(key)
            world.run_pods()

        assert plan.entry is None
        left = {"ControllerRevision", "ModelDeployment", "Node"}
        assert left == {child.kind for child in world.objects}

    def test_suspend_takes_the_pods_and_keeps_the_names(self) -> None:
        world, key = world_with(spec(replicas=2))
        all_ready(world, key)
        world.apply("ModelDeployment", "llama", spec(replicas=2, suspend=True))
        plan = world.settle(key)
        world.run_pods()

        assert [] == world.pods()
        assert (True, "llama") == (body(plan).suspended, body(plan).public_name)


class TestSettled:
    def test_a_second_pass_over_a_settled_object_changes_nothing(self) -> None:
        world, key = world_with(spec(variant(), variant("fp8", quantization="fp8", replicas=2)))
        all_ready(world, key)
        objects = dict(world.objects)
        world.passes(3600)
        plan = world.settle(key)

        assert objects == world.objects
        assert ((), (), (), None) == (plan.scaled, plan.unwanted, plan.notes, plan.requeue_after)

    def test_a_new_leader_that_has_probed_nobody_does_not_take_ready_back(self) -> None:
        world, key = world_with(spec())
        all_ready(world, key)
        before = world.objects[key]["status"]
        world.answers.clear()
        assert before == world.settle(key).status

        world.passes(1)
        world.turn_ready(world.pods()[0], answer=None)  # its container was restarted
        assert "Ready=Unknown Starting" in told(world.settle(key))[-1]

    def test_ready_is_told_once(self) -> None:
        world, key = world_with(spec())
        world.settle(key)
        world.run_pods()
        world.turn_ready(world.pods()[0])
        assert ["ProbeAnswered"] == [str(note.reason) for note in world.settle(key).notes]
        assert () == world.settle(key).notes


class TestUrl:
    URL = "http://headgate-gateway.hg.svc:80/v1"

    def test_the_status_tells_clients_where_to_go(self) -> None:
        world, key = world_with(spec(), url=self.URL)
        assert self.URL == world.settle(key).status["url"]

    @pytest.mark.parametrize(
        ("placed", "url"), [("us", URL), ("eu", None)], ids=["elsewhere", "nobody has told it"]
    )
    def test_where_there_is_none_it_tells_nothing(self, placed: str, url: str | None) -> None:
        world, key = world_with(spec(placement={"regions": [{"name": placed}]}), url=url)
        assert "url" not in world.settle(key).status


class TestScale:
    def test_the_status_counts_the_pool_without_pinned_variants(self) -> None:
        pinned = variant("fp8", quantization="fp8", replicas=2)
        world, key = world_with(spec(variant(), pinned, replicas=3))
        all_ready(world, key)
        status = world.settle(key).status

        assert (3, 3) == (status["replicas"], status["readyReplicas"])
        assert "headgate.dev/model-uid=uid-1,headgate.dev/variant notin (fp8)" == status["selector"]
        assert [3, 2] == [told["readyReplicas"] for told in status["variants"]]

    def test_where_all_variants_are_pinned_all_pods_count(self) -> None:
        world, key = world_with(spec(variant(replicas=2)))
        all_ready(world, key)
        status = world.settle(key).status
        assert (2, "headgate.dev/model-uid=uid-1") == (status["replicas"], status["selector"])


class TestDeadline:
    def test_what_stands_still_for_too_long_is_stuck(self) -> None:
        world, key = world_with(spec(rollout={"progressDeadline": "10m"}))
        world.settle(key)
        world.run_pods()
        world.passes(599)
        assert 1.0 == world.settle(key).requeue_after
        world.passes(1)
        plan = world.settle(key)

        sentence = (
            "nothing has moved for 10m (spec.rollout.progressDeadline): 0 of 1 replicas answer"
        )
        assert f"Progressing=False ProgressDeadlineExceeded: {sentence}" == told(plan)[-2]
        assert f"Ready=False ProgressDeadlineExceeded: {sentence}" == told(plan)[-1]
        assert plan.requeue_after is None

    def test_every_pod_that_gets_ready_is_a_move(self) -> None:
        world, key = world_with(spec(replicas=2, rollout={"progressDeadline": "10m"}))
        world.settle(key)
        world.run_pods()
        world.passes(599)
        world.turn_ready(world.pods()[0])
        world.passes(599)
        assert 1.0 == world.settle(key).requeue_after

    @pytest.mark.parametrize(
        ("status", "sentence"),
        [
            (
                {"image": "triton:9", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
                "the image triton:9 cannot be pulled",
            ),
            (
                {"image": "triton:9", "state": {"waiting": {"reason": "ErrImagePull"}}},
                "the image triton:9 cannot be pulled",
            ),
            (
                {"restartCount": 3, "ready": False, "state": {"running": {}}},
                "the model server ended and was started again: see kubectl logs --previous",
            ),
        ],
    )
    def test_a_pod_that_cannot_start_says_why(self, status: dict[str, Any], sentence: str) -> None:
        world, key = world_with(spec())
        world.settle(key)
        world.run_pods()
        world.pods()[0]["status"]["containerStatuses"] = [status]
        plan = world.settle(key)
        assert (
            f"Ready=Unknown Starting: 0 of 1 replicas answer; variant bf16: {sentence}"
            == told(plan)[-1]
        )
        assert sentence == plan.status["variants"][0]["message"]


class TestTemplate:
    TEMPLATE = "{{ messages[-1].content }}!"
    SPEC = spec(model={"chatTemplate": {"configMapKeyRef": {"name": "t", "key": "chat"}}})
    CONFIG = Key("ConfigMap", NAMESPACE, "t")

    def test_a_template_from_a_config_map_reaches_the_gateways(self) -> None:
        world, key = world_with(self.SPEC)
        world.documents[self.CONFIG] = Document({"chat": self.TEMPLATE.encode()})
        plan = world.settle(key)
        assert (self.TEMPLATE, FOUND) == (body(plan).chat_template, told(plan)[1])

    def test_without_its_template_a_model_is_not_in_force(self) -> None:
        world, key = world_with(self.SPEC)
        plan = world.settle(key)
        assert plan.entry is None
        assert (
            "ResolvedRefs=False ConfigMapNotFound: "
            'spec.model.chatTemplate.configMapKeyRef: there is no ConfigMap "t"'
        ) == told(plan)[1]

    @pytest.mark.parametrize(
        ("found", "mark"),
        [
            (None, "ResolvedRefs=False ConfigMapNotFound"),
            (Document({}), "ResolvedRefs=False KeyNotFound"),
            (Document({"chat": b"{% if %}"}), "ResolvedRefs=False TemplateInvalid"),
            (Unreadable("timeout"), "ResolvedRefs=Unknown SourceUnreadable"),
        ],
    )
    def test_a_template_that_was_in_force_stays(self, found: Any, mark: str) -> None:
        world, key = world_with(self.SPEC)
        world.documents[self.CONFIG] = Document({"chat": self.TEMPLATE.encode()})
        world.settle(key)
        world.documents.pop(self.CONFIG)
        if found is not None:
            world.documents[self.CONFIG] = found
        plan = world.settle(key)
        assert told(plan)[1].startswith(mark)
        assert self.TEMPLATE == body(plan).chat_template


class TestNames:
    def test_the_older_model_has_the_public_name(self) -> None:
        world, first = world_with(spec(model={"name": "gpt"}))
        world.settle(first)
        world.passes(1)
        second = world.apply("ModelDeployment", "gpt", spec())
        plan = world.settle(second)

        assert (
            'Accepted=False NameConflict: spec.model.name: "gpt" belongs to the older '
            "ModelDeployment llama; choose another name, and claim this one in a RoutingPolicy"
        ) == told(plan)[0]
        assert plan.entry is None
        gone = world.objects[first]
        world.delete(first)
        assert second in world.wakes(gone)
        assert GOOD == told(world.settle(second))[0]


class TestWakes:
    def test_children_and_pods_wake_their_model(self) -> None:
        world, key = world_with(spec())
        world.settle(key)
        world.run_pods()
        for kind in ("Deployment", "ConfigMap", "Service", "Pod", "NetworkPolicy"):
            for child in world.all(kind):
                assert {key} == world.wakes(child), kind

    def test_a_node_wakes_models_that_may_use_its_gpus(self) -> None:
        world, anything = world_with(spec())
        hopper = world.apply("ModelDeployment", "h", spec(variant(gpu={"products": [H100]})))
        world.apply("ModelDeployment", "a", spec(variant(gpu={"products": [A100]})))
        (node,) = world.all("Node")
        assert {anything, hopper} == world.wakes(node)

    def test_a_pod_of_somebody_else_wakes_nobody(self) -> None:
        world, _ = world_with(spec())
        assert set() == world.wakes({"kind": "Pod", "metadata": {"name": "x", "namespace": "y"}})


class TestSnapshot:
    def test_old_and_new_cohorts_both_serve_and_each_on_its_own_runtime(self) -> None:
        world, key = world_with(spec(replicas=2))
        all_ready(world, key)
        (old,) = children(world, "Deployment")
        changed = spec(variant(uri="file:///repo"), replicas=2, runtime={"type": "triton-python"})
        world.apply("ModelDeployment", "llama", changed)
        cohorts = body(world.settle(key)).cohorts

        assert ["triton-python", "triton-llmapi"] == [cohort.runtime for cohort in cohorts]
        assert ["ensemble", "tensorrt_llm"] == [cohort.served_model for cohort in cohorts]
        assert old == cohorts[1].name

    def test_a_model_is_known_before_its_pods_answer(self) -> None:
        world, key = world_with(spec(model={"name": "gpt", "maxContextTokens": 4096}))
        told_gateways = body(world.settle(key))
        (cohort,) = children(world, "Deployment")
        assert ("gpt", 4096, 1767225600) == (
            told_gateways.public_name,
            told_gateways.max_context_tokens,
            told_gateways.created,
        )
        assert (
            Cohort(
                name=cohort,
                variant="bf16",
                revision=cohort[-8:],
                runtime="triton-llmapi",
                served_model="tensorrt_llm",
            ),
        ) == told_gateways.cohorts


def story(world: World, key: Key, *, gpus: int = 1000, wait: bool = True) -> str:
    """Run a change to its end, one ready pod at a time, and tell what happened."""
    lines = []
    for step in range(1, 30):
        before = sizes(world)
        plan = world.settle(key)
        after = sizes(world)
        lines.append(f"- Pass {step}: {told(plan)[-2]}")
        for name in sorted({*before, *after}):
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
