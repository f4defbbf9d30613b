from typing import Any

import pytest

from headgate_api.snapshot import RouteBody, Target
from headgate_controllers.contract import Key

from .world import NAMESPACE, World, body, told

ALL_NAMES = "Accepted=True PolicyAccepted: the policy has all its names"
FOUND = "ResolvedRefs=True RefsResolved: everything that the object names was found"
EVERYWHERE = "Programmed=True AllGateways: every Ready gateway enforces generation 1"
SERVING = "Ready=True Serving: a model behind the policy answers"


def spec(*models: str, targets: tuple[str, ...] = ("llama",)) -> dict[str, Any]:
    to = [{"modelRef": {"name": name}, "weight": i} for i, name in enumerate(targets, 1)]
    return {"models": list(models), "routes": [{"name": "all", "targets": to}]}


def model(world: World, name: str, **conditions: str) -> Key:
    key = world.apply("ModelDeployment", name, {"variants": []})
    said = [{"type": t, "status": status, "reason": "X"} for t, status in conditions.items()]
    world.objects[key]["status"] = {"conditions": said}
    return key


@pytest.mark.parametrize(
    ("given", "models", "then"),
    [
        ("a model that answers", {"llama": {"Available": "True"}}, (FOUND, SERVING)),
        (
            "a model that starts",
            {"llama": {"Available": "False", "Ready": "Unknown"}},
            (FOUND, "Ready=Unknown NoTargetReady: no model behind the policy answers yet"),
        ),
        (
            "a model that fails",
            {"llama": {"Available": "False", "Ready": "False"}},
            (FOUND, "Ready=False NoTargetReady: no model behind the policy answers"),
        ),
        (
            "no model",
            {},
            (
                (
                    "ResolvedRefs=False ModelNotFound: "
                    'spec.routes[0].targets: there is no ModelDeployment "llama" in this namespace'
                ),
                (
                    "Ready=False ModelNotFound: "
                    'spec.routes[0].targets: there is no ModelDeployment "llama" in this namespace'
                ),
            ),
        ),
    ],
)
def test_ready_is_about_the_models_behind(
    given: str, models: dict[str, dict[str, str]], then: tuple[str, str]
) -> None:
    world = World()
    for name, conditions in models.items():
        model(world, name, **conditions)
    plan = world.settle(world.apply("RoutingPolicy", "chat", spec("gpt")))

    assert (ALL_NAMES, then[0], EVERYWHERE, then[1]) == told(plan), given


def test_gateways_are_told_names_and_targets() -> None:
    world = World()
    plan = world.settle(world.apply("RoutingPolicy", "chat", spec("z", "a", targets=("x", "y"))))

    assert RouteBody(
        models=("a", "z"),
        targets=(Target(model="x", weight=1), Target(model="y", weight=2)),
        created=1767225600,
    ) == body(plan)
    assert [{"name": "z", "state": "Held"}, {"name": "a", "state": "Held"}] == plan.status["models"]


class TestNames:
    def test_the_older_policy_has_a_name_and_the_loser_keeps_its_others(self) -> None:
        world = World()
        model(world, "llama", Available="True")
        first = world.apply("RoutingPolicy", "zzz-first", spec("gpt"))
        world.passes(1)
        second = world.apply("RoutingPolicy", "second", spec("gpt", "gpt-mini"))
        plan = world.settle(second)

        sentence = (
            'spec.models: "gpt" belongs to the older RoutingPolicy zzz-first; '
            "remove it here or there"
        )
        assert f"Accepted=False ModelNameConflict: {sentence}" == told(plan)[0]
        assert f"Ready=False ModelNameConflict: {sentence}" == told(plan)[3]
        assert ("gpt-mini",) == body(plan).models
        assert [
            {"name": "gpt", "state": "Lost", "heldBy": "zzz-first"},
            {"name": "gpt-mini", "state": "Held"},
        ] == plan.status["models"]
        assert 1 == plan.status["claimed"]
        assert (ALL_NAMES, SERVING) == (told(world.settle(first))[0], told(world.settle(first))[3])

    def test_of_two_of_the_same_second_the_first_by_name_wins(self) -> None:
        world = World()
        loser, winner = (world.apply("RoutingPolicy", name, spec("gpt")) for name in ("b", "a"))
        assert ["Held", "Lost"] == [
            world.settle(key).status["models"][0]["state"] for key in (winner, loser)
        ]

    def test_the_loser_takes_over_when_the_winner_goes(self) -> None:
        world = World()
        winner = world.apply("RoutingPolicy", "a", spec("gpt"))
        loser = world.apply("RoutingPolicy", "b", spec("gpt"))
        assert world.settle(loser).entry is None

        gone = world.objects[winner]
        world.delete(winner)
        assert {winner, loser} == world.wakes(gone)
        assert ("gpt",) == body(world.settle(loser)).models

    def test_the_loser_takes_over_when_the_winner_gives_the_name_up(self) -> None:
        world = World()
        winner = world.apply("RoutingPolicy", "a", spec("gpt"))
        loser = world.apply("RoutingPolicy", "b", spec("gpt"))
        before = world.objects[winner]
        world.apply("RoutingPolicy", "a", spec("other"))

        assert loser in world.wakes(before)
        assert ("gpt",) == body(world.settle(loser)).models

    def test_another_namespace_has_names_of_its_own(self) -> None:
        world = World()
        world.apply("RoutingPolicy", "a", spec("gpt"), namespace="elsewhere")
        world.passes(1)
        assert ("gpt",) == body(world.settle(world.apply("RoutingPolicy", "b", spec("gpt")))).models


def test_a_model_wakes_the_policies_that_lead_to_it() -> None:
    world = World()
    policy = world.apply("RoutingPolicy", "chat", spec("gpt"))
    world.apply("RoutingPolicy", "other", spec("x", targets=("qwen",)))
    llama = model(world, "llama")

    assert {policy, llama} == world.wakes(world.objects[llama])


def test_a_second_pass_changes_nothing() -> None:
    world = World()
    key = world.apply("RoutingPolicy", "chat", spec("gpt"))
    first = world.settle(key)
    world.passes(5)
    second = world.settle(key)

    assert (first.status, first.entry, ()) == (second.status, second.entry, second.notes)
    assert NAMESPACE == key.namespace
