"""Speculative decoding: in pods, in what gateways are told, and where a route has no choice."""

from typing import Any

import pytest
import yaml

from headgate_api.modeldeployment import ModelDeployment
from headgate_api.snapshot import RouteRule, SpeculationBody
from headgate_controllers.modeldeployment.pods import Cohort, cohort
from headgate_controllers.routingpolicy.observed import model_of

from .models import all_ready, children, spec, variant, world_with
from .policies import HONORED, decoded, entry, policy, route
from .world import World, body, told

META = {"name": "llama", "namespace": "chat", "uid": "uid-1", "generation": 1}
HEAD = {"type": "eagle3", "draft": {"uri": "pvc://drafts/llama/head"}}
NGRAM = {"type": "ngram"}


def of(speculative: dict[str, Any], runtime: str = "triton-llmapi", **more: Any) -> Cohort:
    """The pods of a variant that guesses."""
    said = spec(variant(speculative=speculative, **more), runtime={"type": runtime})
    made = ModelDeployment.parse({"metadata": META, "spec": said})
    return cohort(made, made.spec.variants[0], "triton:1")


def claims(pods: Cohort) -> dict[str, str]:
    """Where a pod finds which claim."""
    (server,) = pods.template["spec"]["containers"]
    volumes = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pods.template["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    return {
        mount["mountPath"]: volumes[mount["name"]]
        for mount in server["volumeMounts"]
        if mount["name"] in volumes
    }


class TestPods:
    @pytest.mark.parametrize(
        ("runtime", "file"), [("triton-llmapi", "model.yaml"), ("trtllm-serve", "llm.yaml")]
    )
    @pytest.mark.parametrize(
        ("said", "written"),
        [
            (
                HEAD | {"maxDraftTokens": 4},
                {
                    "decoding_type": "Eagle",
                    "max_draft_len": 4,
                    "speculative_model_dir": "/draft/llama/head",
                },
            ),
            (
                {"type": "draft-target", "draft": {"uri": "hf://org/small@main"}},
                {
                    "decoding_type": "DraftTarget",
                    "max_draft_len": 3,
                    "speculative_model_dir": "org/small",
                },
            ),
            (
                {"type": "mtp", "maxDraftTokens": 1},
                {"decoding_type": "MTP", "max_draft_len": 1, "num_nextn_predict_layers": 1},
            ),
            (NGRAM, {"decoding_type": "NGram", "max_draft_len": 3}),
        ],
        ids=lambda value: value.get("type") if isinstance(value, dict) else None,
    )
    def test_are_told_how_to_guess(
        self, runtime: str, file: str, said: dict[str, Any], written: dict[str, Any]
    ) -> None:
        options = yaml.safe_load(of(said, runtime).files[file])

        assert written == options["speculative_config"]

    def test_may_be_told_more_of_it(self) -> None:
        config = {"speculative_config": {"max_matching_ngram_size": 5}}
        options = yaml.safe_load(of(NGRAM, engine={"config": config}).files["model.yaml"])

        assert {
            "decoding_type": "NGram",
            "max_draft_len": 3,
            "max_matching_ngram_size": 5,
        } == options["speculative_config"]

    @pytest.mark.parametrize(
        ("source", "draft", "found", "path"),
        [
            ("hf://o/n@main", "pvc://drafts/d", {"/draft": "drafts"}, "/draft/d"),
            ("pvc://w/m", "pvc://w/d", {"/models": "w"}, "/models/d"),
            ("pvc://w/m", "pvc://drafts/d", {"/models": "w", "/draft": "drafts"}, "/draft/d"),
            ("pvc://w/m", "hf://o/d@main", {"/models": "w"}, "o/d"),
            ("file:///m", "file:///d", {}, "/d"),
        ],
    )
    def test_find_the_draft_beside_the_checkpoint_or_on_a_claim_of_its_own(
        self, source: str, draft: str, found: dict[str, str], path: str
    ) -> None:
        pods = of({"type": "draft-target", "draft": {"uri": draft}}, uri=source)

        assert found == claims(pods)
        written = yaml.safe_load(pods.files["model.yaml"])["speculative_config"]
        assert path == written["speculative_model_dir"]

    def test_are_others_when_they_guess_otherwise(self) -> None:
        revisions = {
            of(said).revision
            for said in (
                NGRAM,
                NGRAM | {"maxDraftTokens": 5},
                HEAD,
                HEAD | {"draft": {"uri": "pvc://drafts/llama/other"}},
                HEAD | {"draft": {"uri": "pvc://others/llama/head"}},
            )
        }
        assert 5 == len(revisions)


class TestGateways:
    def test_are_told_which_cohorts_guess(self) -> None:
        both = spec(variant("plain"), variant("fast", speculative=NGRAM, replicas=1))
        world, key = world_with(both)

        cohorts = body(world.settle(key)).cohorts

        assert [("plain", False), ("fast", True)] == [(c.variant, c.speculative) for c in cohorts]

    def test_know_that_pods_from_before_do_not_guess(self) -> None:
        world, key = world_with(spec(replicas=2))
        all_ready(world, key)
        (old,) = children(world, "Deployment")
        world.apply("ModelDeployment", "llama", spec(variant(speculative=NGRAM), replicas=2))

        cohorts = {c.name: c.speculative for c in body(world.settle(key)).cohorts}

        assert [False, True] == sorted(cohorts.values())
        assert not cohorts[old]

    def test_are_told_which_requests_of_a_route_may_be_guessed(self) -> None:
        said = {
            "mode": "Shadow",
            "percent": 50,
            "minAcceptancePercent": 60,
            "minBenefitPercent": 10,
            "maxInputTokens": 8000,
            "maxTemperature": 0.8,
            "toolCalls": "Use",
        }
        assert (
            SpeculationBody(
                mode="Shadow",
                percent=50,
                min_acceptance_percent=60,
                min_benefit_percent=10,
                max_input_tokens=8000,
                max_temperature=0.8,
                tool_calls="Use",
            )
            == rule_of(said).speculative
        )

    def test_are_told_the_defaults_of_a_route_that_says_no_more(self) -> None:
        assert SpeculationBody() == rule_of({}).speculative

    def test_are_told_nothing_by_a_route_that_does_not_speak_of_it(self) -> None:
        assert rule_of(None).speculative is None


def rule_of(speculative: dict[str, Any] | None) -> RouteRule:
    more = {} if speculative is None else {"speculative": speculative}
    (rule,) = decoded(entry(policy("Single", route("only", **more)))).routes
    return rule


def judged(
    *variants: dict[str, Any], listed: tuple[str, ...] = (), mode: str | None = "Auto"
) -> str:
    """What SpecHonored says of a policy over these variants of the model `llama`."""
    world = World()
    if variants:
        world.apply("ModelDeployment", "llama", spec(*variants))
    target: dict[str, Any] = {"modelRef": {"name": "llama"}}
    if listed:
        target["variants"] = list(listed)
    more = {} if mode is None else {"speculative": {"mode": mode}}
    said = policy("Single", route("only", targets=[target], **more))
    plan = world.settle(world.apply("RoutingPolicy", "chat", said))
    assert plan.entry is not None
    return next(sentence for sentence in told(plan) if sentence.startswith("SpecHonored"))


PLAIN, FAST = variant("plain"), variant("fast", speculative=NGRAM)


class TestARoute:
    """It is in force whatever it has to choose from; SpecHonored tells of what has no effect."""

    @pytest.mark.parametrize("mode", ["Auto", "Shadow", "Never"])
    def test_with_both_kinds_of_variants_has_its_choice(self, mode: str) -> None:
        assert HONORED == judged(PLAIN, FAST, mode=mode)

    @pytest.mark.parametrize("listed", [(), ("plain",)])
    @pytest.mark.parametrize("mode", ["Auto", "Shadow"])
    def test_without_a_variant_that_guesses_says_so(
        self, mode: str, listed: tuple[str, ...]
    ) -> None:
        variants = (PLAIN, FAST) if listed else (PLAIN,)
        assert (
            f"SpecHonored=False NotSupportedHere: spec.routes[only].speculative: mode {mode} has "
            "no variant that guesses among the targets llama; list one that has speculative in its "
            "ModelDeployment, or remove this"
        ) == judged(*variants, listed=listed, mode=mode)

    @pytest.mark.parametrize("mode", ["Auto", "Shadow", "Never"])
    def test_without_a_plain_variant_says_so(self, mode: str) -> None:
        assert (
            f"SpecHonored=False NotSupportedHere: spec.routes[only].speculative: mode {mode} has "
            "no plain variant of llama, where every request is guessed; list a twin without "
            "speculative, or remove this"
        ) == judged(PLAIN, FAST, listed=("fast",), mode=mode)

    def test_that_never_guesses_needs_nobody_who_does(self) -> None:
        assert HONORED == judged(PLAIN, mode="Never")

    def test_that_does_not_speak_of_it_needs_neither(self) -> None:
        assert HONORED == judged(FAST, mode=None)

    def test_over_a_model_that_is_not_there_waits_for_it(self) -> None:
        assert HONORED == judged()

    def test_over_several_models_needs_one_that_guesses(self) -> None:
        world = World()
        world.apply("ModelDeployment", "llama", spec(PLAIN))
        world.apply("ModelDeployment", "qwen", spec(PLAIN, FAST))
        targets = [{"modelRef": {"name": name}} for name in ("llama", "qwen")]
        said = policy("Single", route("only", targets=targets, speculative={}))

        assert HONORED in told(world.settle(world.apply("RoutingPolicy", "chat", said)))

    def test_whose_targets_are_parts_of_one_model_is_told_of_each(self) -> None:
        world = World()
        world.apply("ModelDeployment", "llama", spec(PLAIN, FAST))
        targets = [
            {"modelRef": {"name": "llama"}, "variants": [name], "weight": weight}
            for name, weight in (("fast", 20), ("plain", 80))
        ]
        said = policy("Single", route("only", targets=targets, speculative={}))
        sentences = told(world.settle(world.apply("RoutingPolicy", "chat", said)))

        assert any("mode Auto has no plain variant of llama" in each for each in sentences)

    def test_says_what_else_has_no_effect_first(self) -> None:
        world = World()
        world.apply("ModelDeployment", "llama", spec(PLAIN))
        said = policy(
            "Router",
            route("modes", when="region.mode == 'Safe'", speculative={}),
            route("last"),
        )
        (honored,) = (
            sentence
            for sentence in told(world.settle(world.apply("RoutingPolicy", "chat", said)))
            if sentence.startswith("SpecHonored")
        )
        assert "nothing measures region.mode yet; it is Full in every request" in honored
        assert "; spec.routes[modes].speculative: mode Auto has no variant" in honored


def test_a_model_tells_which_of_its_variants_guess() -> None:
    assert frozenset({"fast"}) == model_of({"spec": spec(PLAIN, FAST)}).guessing
