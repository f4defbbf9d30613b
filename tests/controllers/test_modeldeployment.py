from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from headgate_api.labels import COHORT, MODEL_SERVER, PART
from headgate_api.snapshot import Cohort, TokenizerBody
from headgate_controllers.contract import Document, Key, Unreadable, key_of

from .models import (
    A100,
    FOUND,
    GOOD,
    H100,
    NOBODY,
    SUITED,
    TEMPLATE,
    TEMPLATE_MAP,
    TEMPLATED,
    all_ready,
    children,
    made,
    spec,
    variant,
    world_with,
)
from .world import World, body, told


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
THERE = "there are nodes with 8 x NVIDIA-H100-80GB-HBM3"

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
            f"NodesSuited=False NoSuitedNode: variant bf16: no node has 1 x {A100}; {THERE}",
            NOBODY,
            "Progressing=True Scaling: 0 of 1 replicas answer",
            f"Ready=Unknown NoSuitedNode: variant bf16: no node has 1 x {A100}; {THERE}",
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
                f"capability 10.0 (Blackwell) or newer; {THERE}"
            ),
            NOBODY,
            "Progressing=True Scaling: 0 of 1 replicas answer",
            (
                "Ready=Unknown NoSuitedNode: variant bf16: no node has 1 x a GPU of compute "
                f"capability 10.0 (Blackwell) or newer; {THERE}"
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

    def test_a_new_leader_does_not_go_by_a_ready_that_no_probe_has_answered(self) -> None:
        world, key = world_with(spec())
        all_ready(world, key)
        world.answers.clear()
        conditions = world.objects[key]["status"]["conditions"]
        world.objects[key]["status"]["conditions"] = [
            condition | ({"reason": "Suspended"} if condition["type"] == "Ready" else {})
            for condition in conditions
        ]
        assert NOBODY == told(world.settle(key))[3]


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

    def test_pods_on_their_way_out_do_not_count(self) -> None:
        world, key = world_with(spec(replicas=2))
        all_ready(world, key)
        world.turn_away(world.pods()[0])
        status = world.settle(key).status
        assert (1, 1) == (status["replicas"], status["readyReplicas"])
        assert (1, 1) == (
            status["variants"][0]["replicas"],
            status["variants"][0]["readyReplicas"],
        )

    def test_a_variant_that_is_complete_has_nothing_to_explain(self) -> None:
        world, key = world_with(spec())
        all_ready(world, key)
        assert "reason" not in world.settle(key).status["variants"][0]

    def test_a_variant_without_replicas_needs_no_node_and_is_not_the_stable_one(self) -> None:
        idle = variant("idle", replicas=0, gpu={"products": [A100]})
        world, key = world_with(spec(idle, variant()))
        all_ready(world, key)
        plan = world.settle(key)
        assert SUITED == told(plan)[2]
        assert plan.status["variants"][1]["revision"] == plan.status["stableRevision"]


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

    def test_every_pod_that_is_made_is_a_move(self) -> None:
        world, key = world_with(spec(rollout={"progressDeadline": "10m"}))
        world.settle(key)
        world.passes(599)
        world.run_pods()
        world.passes(599)
        assert 1.0 == world.settle(key).requeue_after

    def test_without_a_pod_time_runs_from_the_deployment(self) -> None:
        world, key = world_with(spec(rollout={"progressDeadline": "10m"}))
        world.settle(key)  # and a ResourceQuota lets no pod be made
        world.passes(600)
        assert "ProgressDeadlineExceeded" in told(world.settle(key))[-1]

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

    @pytest.mark.parametrize("ready", [True, False], ids=["ready again", "on its way out"])
    def test_a_pod_that_is_no_trouble_any_more_says_nothing(self, ready: bool) -> None:
        world, key = world_with(spec(replicas=2))
        world.settle(key)
        world.run_pods()
        pod = world.pods()[0]
        pod["status"]["containerStatuses"] = [{"restartCount": 1, "ready": ready}]
        if not ready:
            world.turn_away(pod)
        assert "Ready=Unknown Starting: 0 of 2 replicas answer" == told(world.settle(key))[-1]

    def test_a_pod_that_no_node_takes_says_why(self) -> None:
        world, key = world_with(spec())
        world.settle(key)
        world.run_pods(gpus=0)
        (waits,) = world.pods()[0]["status"]["conditions"]
        waits["message"] = "0/1 nodes are available: 1 node(s) had untolerated taint {spot: yes}."
        assert (
            "Ready=Unknown Starting: 0 of 1 replicas answer; variant bf16: no node takes the pod: "
            f"{waits['message']}"
        ) == told(world.settle(key))[-1]

    def test_a_probe_that_failed_counts_as_long_as_the_pod_is_ready(self) -> None:
        world, key = world_with(spec())
        world.settle(key)
        world.run_pods()
        world.turn_ready(world.pods()[0], answer="connection reset")
        world.turn_unready(world.pods()[0])
        assert "Ready=Unknown Starting: 0 of 1 replicas answer" == told(world.settle(key))[-1]

    def test_a_failure_is_told_before_a_missing_node(self) -> None:
        world, key = world_with(
            spec(variant(replicas=1), variant("b", replicas=1, gpu={"products": [A100]}))
        )
        world.settle(key)
        world.run_pods()
        for pod in world.pods():
            if "-bf16-" in pod["metadata"]["name"]:
                world.turn_ready(pod, answer="connection reset")
        plan = world.settle(key)
        assert told(plan)[2].startswith("NodesSuited=False")
        assert told(plan)[-1].startswith("Ready=False ProbeFailed")


class TestTemplate:
    def test_a_template_from_a_config_map_reaches_the_gateways(self) -> None:
        world, key = world_with(TEMPLATED)
        world.documents[TEMPLATE_MAP] = Document({"chat": TEMPLATE.encode()})
        plan = world.settle(key)
        assert (TEMPLATE, FOUND) == (body(plan).chat_template, told(plan)[1])

    def test_without_its_template_a_model_is_not_in_force(self) -> None:
        world, key = world_with(TEMPLATED)
        plan = world.settle(key)
        assert plan.entry is None
        assert (
            "ResolvedRefs=False ConfigMapNotFound: "
            'spec.model.chatTemplate.configMapKeyRef: there is no ConfigMap "t"'
        ) == told(plan)[1]

    def test_a_model_without_its_template_is_not_ready_though_its_pods_answer(self) -> None:
        world, key = world_with(TEMPLATED)
        all_ready(world, key)
        plan = world.settle(key)
        assert "Progressing=False RolloutComplete: 1 replica answers" in told(plan)
        assert told(plan)[-1].startswith("Ready=False ConfigMapNotFound")

    def test_a_template_that_cannot_be_read_and_was_never_seen_holds_the_model_back(self) -> None:
        world, key = world_with(TEMPLATED)
        world.documents[TEMPLATE_MAP] = Unreadable("timeout")
        all_ready(world, key)
        plan = world.settle(key)
        assert plan.entry is None
        assert told(plan)[-1].startswith("Ready=Unknown SourceUnreadable")

    def test_a_missing_template_withdraws_no_model_that_serves_with_the_standard_one(self) -> None:
        world, key = world_with(spec())
        all_ready(world, key)
        world.settle(key)
        world.apply(key.kind, key.name, TEMPLATED)
        plan = world.settle(key)
        assert body(plan).chat_template is None
        assert told(plan)[-1].startswith("Ready=False ConfigMapNotFound")

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
        world, key = world_with(TEMPLATED)
        world.documents[TEMPLATE_MAP] = Document({"chat": TEMPLATE.encode()})
        world.settle(key)
        world.documents.pop(TEMPLATE_MAP)
        if found is not None:
            world.documents[TEMPLATE_MAP] = found
        plan = world.settle(key)
        assert told(plan)[1].startswith(mark)
        assert TEMPLATE == body(plan).chat_template

    def test_a_template_is_told_before_a_secret(self) -> None:
        env = [{"name": "T", "secretKeyRef": {"name": "hf", "key": "token"}}]
        world, key = world_with(TEMPLATED | {"runtime": {"env": env}})
        assert "ResolvedRefs=False ConfigMapNotFound" in told(world.settle(key))[1]
        assert told(world.settle(key))[1].endswith(
            '; spec.runtime.env[T].secretKeyRef: there is no Secret "hf"'
        )


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

    def test_who_loses_its_name_is_out_of_force_and_otherwise_untouched(self) -> None:
        """An object that is restored from a backup may be older than one that serves."""
        world, young = world_with(spec())
        all_ready(world, young)
        before = made(world)
        older = {"creationTimestamp": "2025-01-01T00:00:00Z"}
        world.apply("ModelDeployment", "old", spec(model={"name": "llama"}), **older)
        plan = world.settle(young)
        assert told(plan)[0].startswith("Accepted=False NameConflict")
        assert plan.entry is None
        assert before == made(world)


class TestWakes:
    def test_children_and_pods_wake_their_model(self) -> None:
        world, key = world_with(spec())
        world.settle(key)
        world.run_pods()
        kinds = {key.kind for key in world.objects} - {"Node", "ModelDeployment"}
        assert 7 == len(kinds)
        for kind in kinds:
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


class TestTrtllmServe:
    def world(self) -> tuple[World, Key]:
        serve = spec(runtime={"type": "trtllm-serve"})
        return world_with(serve, trtllm_serve_image="trtllm:1")

    def test_runs_the_image_that_the_chart_names_for_it(self) -> None:
        world, key = self.world()
        world.settle(key)
        (deployment,) = world.all("Deployment")
        (server,) = deployment["spec"]["template"]["spec"]["containers"]

        assert "trtllm:1" == server["image"]

    def test_opens_its_one_port_to_gateways_and_to_the_operators_probe(self) -> None:
        world, key = self.world()
        world.settle(key)
        (service,) = world.all("Service")
        (policy,) = world.all("NetworkPolicy")

        assert [{"name": "http", "port": 8000}] == service["spec"]["ports"]
        assert [[8000], [8000]] == [
            [port["port"] for port in door["ports"]] for door in policy["spec"]["ingress"]
        ]

    def test_gateways_that_do_not_speak_its_language_must_not_take_it(self) -> None:
        world, key = self.world()
        plan = world.settle(key)
        assert plan.entry is not None

        assert ("trtllm-serve",) == plan.entry.requires
        assert ["trtllm-serve"] == [cohort.runtime for cohort in body(plan).cohorts]


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

    def test_a_cohort_is_known_as_long_as_it_has_pods(self) -> None:
        world, key = world_with(spec())
        all_ready(world, key)
        (name,) = children(world, "Deployment")
        world.apply("ModelDeployment", "llama", spec(suspend=True))
        (pod,) = world.pods()
        world.turn_away(pod)
        assert [name] == [cohort.name for cohort in body(world.settle(key)).cohorts]
        del world.objects[key_of(pod)]
        assert () == body(world.settle(key)).cohorts

    def test_an_old_cohort_stays_until_its_last_pod_has_gone(self) -> None:
        world, key = world_with(spec())
        all_ready(world, key)
        (old,) = children(world, "Deployment")
        world.apply("ModelDeployment", "llama", spec(runtime={"image": "triton:2"}))
        world.settle(key)
        world.run_pods()
        (new_pod,) = [pod for pod in world.pods() if not pod["status"]["conditions"]]
        world.turn_ready(new_pod)
        (old_pod,) = world.pods(old)
        world.turn_away(old_pod)
        for _ in range(2):
            cohorts = [cohort.name for cohort in body(world.settle(key)).cohorts]
            assert old in cohorts
            assert old in children(world, "Deployment")
            assert old in children(world, "ConfigMap")
        del world.objects[key_of(old_pod)]
        assert old not in [cohort.name for cohort in body(world.settle(key)).cohorts]
        assert [[new_pod["metadata"]["labels"][COHORT]]] * 2 == [
            children(world, kind) for kind in ("Deployment", "ConfigMap")
        ]

    def test_an_old_cohort_that_stands_in_is_known_even_while_its_pod_is_replaced(self) -> None:
        world, key = world_with(spec())
        all_ready(world, key)
        (old,) = children(world, "Deployment")
        world.apply("ModelDeployment", "llama", spec(runtime={"image": "triton:2"}))
        (pod,) = world.pods(old)
        del world.objects[key_of(pod)]
        plan = world.settle(key)
        assert old in [cohort.name for cohort in body(plan).cohorts]
        assert ((), ()) == (plan.scaled, plan.unwanted)

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

    def test_a_tokenizer_is_told_to_gateways_and_moves_no_pod(self) -> None:
        world, key = world_with(spec())
        all_ready(world, key)
        before = made(world)
        tokenizer = {"uri": "https://models.example/tokenizer.json", "digest": "sha256:" + 64 * "0"}
        world.apply("ModelDeployment", "llama", spec(model={"tokenizer": tokenizer}))
        plan = world.settle(key)

        assert TokenizerBody(**tokenizer) == body(plan).tokenizer
        assert before == {child: made(world)[child] for child in before}
