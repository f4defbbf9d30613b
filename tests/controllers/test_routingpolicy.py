from typing import Any

import pytest

from headgate_api.snapshot import (
    DeadlineBody,
    Entry,
    HedgingBody,
    OutlierBody,
    RetryBody,
    RouteBody,
    RouteRule,
    StreamingBody,
    Target,
)

from .policies import (
    ALL_NAMES,
    EVERYWHERE,
    FOUND,
    HONORED,
    SERVING,
    decoded,
    entry,
    model,
    spec,
)
from .world import NAMESPACE, World, body, told


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
                    "ResolvedRefs=False ModelNotFound: spec.routes[all].targets: "
                    'there is no ModelDeployment "llama" in this namespace'
                ),
                (
                    "Ready=False ModelNotFound: spec.routes[all].targets: "
                    'there is no ModelDeployment "llama" in this namespace'
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

    assert (ALL_NAMES, then[0], HONORED, EVERYWHERE, then[1]) == told(plan), given


def test_gateways_are_told_names_and_targets() -> None:
    world = World()
    plan = world.settle(world.apply("RoutingPolicy", "chat", spec("z", "a", targets=("x", "y"))))

    assert RouteBody(
        models=("a", "z"),
        routes=(leading(Target(model="x", weight=1), Target(model="y", weight=2)),),
        created=1767225600,
    ) == body(plan)
    assert [{"name": "z", "state": "Held"}, {"name": "a", "state": "Held"}] == plan.status["models"]


class TestHowModelsAreCalled:
    """`RouteBody`'s own defaults are those of models that no policy claims."""

    def test_a_policy_that_says_nothing_of_it_changes_nothing(self) -> None:
        plan = calling({})

        routes = (leading(Target(model="llama")),)
        assert RouteBody(models=("gpt",), routes=routes, created=1767225600) == decoded(plan)
        assert ("routes",) == plan.requires

    def test_what_is_written_out_is_the_same_as_what_is_left_out(self) -> None:
        written = {
            "deadlines": {
                "class": "Interactive",
                "total": "2m",
                "stream": "10m",
                "firstSegment": "30s",
                "idleToken": "15s",
                "reserve": "500ms",
            },
            "retries": {"retryOn": ["Overloaded", "Unavailable", "Reset", "Connect"]},
            "loadBalancing": {"outlierDetection": {}},
        }

        assert bytes(calling({}).body) == bytes(calling(written).body)

    def test_gateways_are_told_everything_in_seconds(self) -> None:
        plan = calling(
            {
                "deadlines": {
                    "class": "Background",
                    "total": "5m",
                    "stream": "1h",
                    "firstSegment": "2m",
                    "idleToken": "1m",
                    "reserve": "1s",
                    "stages": {"input": "500ms", "output": "1s"},
                },
                "retries": {
                    "maxAttempts": 3,
                    "budgetPercent": 10,
                    "minConcurrent": 1,
                    "backoffBase": "50ms",
                    "backoffMax": "1s",
                    "retryOn": ["FirstTokenTimeout", "Connect"],
                },
                "hedging": {},
                "loadBalancing": {
                    "outlierDetection": {
                        "consecutiveFailures": 3,
                        "baseEjectionTime": "10s",
                        "maxEjectionPercent": 30,
                    }
                },
            }
        )

        told = decoded(plan)
        assert (
            DeadlineBody(
                background=True,
                total=300.0,
                stream=3600.0,
                first_segment=120.0,
                idle_token=60.0,
                reserve=1.0,
                stages={"input": 0.5, "output": 1.0},
            ),
            RetryBody(
                max_attempts=3,
                budget_percent=10,
                min_concurrent=1,
                backoff_base=0.05,
                backoff_max=1.0,
                retry_on=("Connect", "FirstTokenTimeout"),
            ),
            HedgingBody(percentile=95, max_percent=5),
            OutlierBody(consecutive_failures=3, base_ejection=10.0, max_ejection_percent=30),
        ) == (told.deadlines, told.retries, told.hedging, told.outliers)

    def test_hedging_may_wait_for_a_fixed_time(self) -> None:
        told = decoded(calling({"hedging": {"after": "800ms", "maxPercent": 1}}))

        assert HedgingBody(seconds=0.8, max_percent=1) == told.hedging

    @pytest.mark.parametrize(
        "block",
        [
            {"deadlines": {"total": "1m"}},
            {"retries": {"maxAttempts": 1}},
            {"hedging": {}},
            {"loadBalancing": {"outlierDetection": {"consecutiveFailures": 4}}},
        ],
    )
    def test_a_gateway_that_cannot_keep_a_promise_must_not_take_it(
        self, block: dict[str, Any]
    ) -> None:
        assert ("call-policy", "routes") == calling(block).requires

    def test_a_percentile_that_no_rule_let_through_refuses_the_object(self) -> None:
        world = World()
        said = {**spec("gpt"), "hedging": {"after": "p42"}}
        plan = world.settle(world.apply("RoutingPolicy", "chat", said))

        assert told(plan)[0].startswith(
            'Accepted=False SpecInvalid: spec.hedging.after: Invalid value: "p42": '
        )


def calling(block: dict[str, Any]) -> Entry:
    return entry({**spec("gpt"), **block})


def leading(*targets: Target) -> RouteRule:
    return RouteRule(name="all", targets=targets, streaming=StreamingBody())


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
        assert f"Ready=False ModelNameConflict: {sentence}" == told(plan)[-1]
        assert ("gpt-mini",) == body(plan).models
        assert [
            {"name": "gpt", "state": "Lost", "heldBy": "zzz-first"},
            {"name": "gpt-mini", "state": "Held"},
        ] == plan.status["models"]
        assert 1 == plan.status["claimed"]
        assert (ALL_NAMES, SERVING) == (told(world.settle(first))[0], told(world.settle(first))[-1])

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
