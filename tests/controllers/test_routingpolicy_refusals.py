"""Policies that a rule of the schema lets through and that still cannot work."""

from typing import Any

import pytest

from headgate_controllers.contract import Document, Key, Unreadable

from .policies import EVERYWHERE, FOUND, HONORED, model, policy, route, spec
from .world import NAMESPACE, World, body, told

LAST = route("last")
BACK = {"triggers": ["Error"]}
JUDGED = {"modelRef": {"name": "llama"}}
TOLD_BY = {**JUDGED, "instructionsKeyRef": {"name": "judging", "key": "prompt"}}
MAP = Key("ConfigMap", NAMESPACE, "judging")


def router(**first: Any) -> dict[str, Any]:
    """A Router whose first route is the one in question."""
    return policy("Router", route("first", **first), LAST)


def falls(name: str, *to: str) -> dict[str, Any]:
    further = {"fallback": [{"route": one, **BACK} for one in to]} if to else {}
    return route(name, role="Fallback", **further)


NOT_ACCEPTED = {
    "a condition that is not written to its end": (
        router(when="request.turns > 3 &&"),
        "InvalidExpression: spec.routes[first].when: column 21: the expression ends here",
    ),
    "a word that does not exist": (
        router(when="request.inputToken > 6000"),
        (
            "InvalidExpression: spec.routes[first].when: column 1: there is no "
            "request.inputToken; did you mean request.inputTokens?"
        ),
    ),
    "types that do not fit": (
        router(when="user.tier > 3"),
        (
            "InvalidExpression: spec.routes[first].when: column 13: 3 is an int, "
            "user.tier is a string"
        ),
    ),
    "a value that there is not": (
        router(when="tenant.priority == 'High'"),
        (
            "InvalidExpression: spec.routes[first].when: column 20: tenant.priority is "
            "Critical, Standard or Sheddable, never 'High'"
        ),
    ),
    "a condition of unbounded cost": (
        router(when="request.tools.all(tool, tool in request.sources)"),
        "InvalidExpression: spec.routes[first].when: column 1: this may cost ",
    ),
    "a header that the policy does not read": (
        router(when="request.headers['x-plan'] == 'mix'"),
        (
            "InvalidExpression: spec.routes[first].when: column 17: matchHeaders does not list "
            "x-plan; add it there"
        ),
    ),
    "the word of an answer about a request": (
        router(when="answer.schemaValid"),
        (
            "InvalidExpression: spec.routes[first].when: column 1: answer.schemaValid has no value "
            "in when, only in acceptWhen"
        ),
    ),
    "two of them": (
        policy("Router", route("a", when="x"), route("b", when="1", acceptWhen="y"), LAST),
        (
            "InvalidExpression: spec.routes[a].when: column 1: there is no x; "
            "spec.routes[b].when: column 1: 1 is "
        ),
    ),
    "four of them": (
        policy("Router", *(route(name, when="x") for name in "abcd"), LAST),
        "InvalidExpression: "
        + "; ".join(f"spec.routes[{name}].when: column 1: there is no x" for name in "abc")
        + " (and 1 more)",
    ),
    "faults of several kinds": (
        policy(
            "Router",
            route("typo", when="x", fallback=[{"route": "a", **BACK}]),
            route("never", when="request.turns < 0"),
            LAST,
            falls("a", "b"),
            falls("b", "a"),
        ),
        (
            "InvalidExpression: spec.routes[typo].when: column 1: there is no x; "
            "spec.routes[never].when: column 1: the expression is never true; "
            "spec.routes[a].fallback: routes fall back to each other in a circle: a -> b -> a; "
            "remove one of these fallbacks"
        ),
    ),
    "two that are long": (
        policy("Router", *(route(name, when="x" * 700) for name in "ab"), LAST),
        f"InvalidExpression: spec.routes[a].when: column 1: there is no {'x' * 700} (and 1 more)",
    ),
    "the second line of a condition": (
        router(when="request.stream &&\n  request.turn > 3\n"),
        (
            "InvalidExpression: spec.routes[first].when: line 2, column 3: there is no "
            "request.turn; did you mean request.turns?"
        ),
    ),
    "a score that nobody gives": (
        policy("Single", route("only", acceptWhen="answer.verifier.score > 0.5")),
        (
            "InvalidExpression: spec.routes[only].acceptWhen: answer.verifier.score has no value "
            "without a verifier; add one to this route"
        ),
    ),
    "a condition that is never true": (
        router(when="request.turns < 0"),
        ("RouteNeverMatches: spec.routes[first].when: column 1: the expression is never true"),
    ),
    "a condition that contradicts itself": (
        router(when="request.stream && user.tier == 'a' && user.tier == 'b'"),
        "RouteNeverMatches: spec.routes[first].when: column 1: ",
    ),
    "an answer that is never accepted": (
        policy("Cascade", route("first", acceptWhen="answer.outputTokens < 0"), LAST),
        (
            "RouteNeverMatches: spec.routes[first].acceptWhen: column 1: "
            "the expression is never true"
        ),
    ),
    "a condition that is always true": (
        router(when="request.turns >= 0"),
        (
            "RouteNeverMatches: spec.routes[first].when: column 1: the expression is always true, "
            "so that route last after it is never reached; write this route last, without when"
        ),
    ),
    "the same condition twice": (
        policy(
            "Router",
            route("first", when="request.stream&&request.hasTools"),
            route("second", when="request.stream && // both\n request.hasTools"),
            LAST,
        ),
        (
            "RouteNeverMatches: spec.routes[second].when: route first before it takes every such "
            "request; change one of the two, or write this one first"
        ),
    ),
    "a condition that a wider one has taken": (
        policy(
            "Router",
            route("first", when="request.hasTools || user.tier == 'premium'"),
            route("second", when="request.inputTokens > 6000 && user.tier=='premium'"),
            LAST,
        ),
        (
            "RouteNeverMatches: spec.routes[second].when: route first before it takes every such "
            "request; change one of the two, or write this one first"
        ),
    ),
    "a name that the policy does not claim": (
        router(when="request.model in ['gpt-4', 'claude']"),
        (
            'RouteNeverMatches: spec.routes[first].when: request.model is never "claude" or '
            '"gpt-4" here; spec.models has gpt'
        ),
    ),
    "routes that fall back to each other": (
        policy(
            "Single",
            route("first", fallback=[{"route": "a", **BACK}]),
            falls("a", "b"),
            falls("b", "c", "a"),
            falls("c"),
        ),
        (
            "FallbackLoop: spec.routes[a].fallback: routes fall back to each other in a circle: "
            "a -> b -> a; remove one of these fallbacks"
        ),
    ),
}
NOT_RESOLVED = {
    "a variant that its model does not have": (
        policy(
            "Single",
            route("only", targets=[{"modelRef": {"name": "llama"}, "variants": ["fp8", "fp9"]}]),
        ),
        (
            "VariantNotFound: spec.routes[only].targets: "
            'ModelDeployment "llama" has no variant "fp9"; it has fp8, int4'
        ),
    ),
    "log probabilities of a runtime that has none": (
        policy("Cascade", route("first", acceptWhen="answer.logprob.mean > -0.4"), LAST),
        (
            "CapabilityMissing: spec.routes[first].acceptWhen: no model server of this route tells "
            "answer.logprob.mean; only runtime.type triton-python or trtllm-serve does, and its "
            "targets have triton-llmapi"
        ),
    ),
    "instructions that are not there": (
        policy(
            "Single",
            route("only", verifier=TOLD_BY, acceptWhen="answer.verifier.score > 0.5"),
        ),
        (
            "ConfigMapNotFound: spec.routes[only].verifier.instructionsKeyRef: "
            'there is no ConfigMap "judging"'
        ),
    ),
}
CASES = [
    *(("Accepted", given, *case) for given, case in NOT_ACCEPTED.items()),
    *(("ResolvedRefs", given, *case) for given, case in NOT_RESOLVED.items()),
]


@pytest.mark.parametrize(("condition", "given", "bad", "says"), CASES, ids=[c[1] for c in CASES])
class TestRefusal:
    def test_says_where_and_what_to_do(
        self, condition: str, given: str, bad: dict[str, Any], says: str
    ) -> None:
        world = World()
        model(world, "llama", Available="True")
        plan = world.settle(world.apply("RoutingPolicy", "chat", bad))

        reason = says.partition(":")[0]
        first, *others = told(plan)
        assert f"{condition}=False {says}" == first[: len(f"{condition}=False {says}")], given
        assert [
            f"Programmed=False {reason}: nothing of it is in force",
            first.replace(condition, "Ready"),
        ] == others
        assert (None, [reason]) == (plan.entry, [note.reason for note in plan.notes])

    def test_leaves_the_last_accepted_version_and_others_in_force(
        self, condition: str, given: str, bad: dict[str, Any], says: str
    ) -> None:
        world = World()
        model(world, "llama", Available="True")
        chat = world.apply("RoutingPolicy", "chat", spec("gpt"))
        other = world.apply("RoutingPolicy", "other", spec("gpt-mini"))
        good, neighbour = world.settle(chat).entry, world.settle(other)
        world.apply("RoutingPolicy", "chat", bad)
        plan = world.settle(chat)

        kept = "Programmed=True KeptLastAccepted: generation 1, accepted last, stays in force"
        assert (good, kept) == (plan.entry, told(plan)[1]), given
        assert told(neighbour) == told(world.settle(other))

        world.apply("RoutingPolicy", "chat", spec("gpt"))
        assert told(world.settle(chat))[-1].startswith("Ready=True")


def test_what_is_wrong_with_references_is_told_beside_what_is_wrong_with_rules() -> None:
    world = World()
    model(world, "llama", Available="True")
    target = {"modelRef": {"name": "llama"}, "variants": ["fp9"]}
    bad = policy("Router", route("first", when="x", targets=[target]), LAST)
    plan = world.settle(world.apply("RoutingPolicy", "chat", bad))

    rule = "Accepted=False InvalidExpression: spec.routes[first].when: column 1: there is no x"
    reference = (
        "ResolvedRefs=False VariantNotFound: spec.routes[first].targets: ModelDeployment "
        '"llama" has no variant "fp9"; it has fp8, int4'
    )
    assert (rule, reference) == told(plan)[:2]


def test_what_is_not_wrong_is_let_through() -> None:
    """Neighbours of what is refused above."""
    world = World()
    model(world, "llama", "trtllm-serve", Available="True")
    good = policy(
        "Router",
        route("first", when="request.stream && request.hasTools"),
        route("wider", when="request.stream"),
        route("other", when="request.model == 'gpt' && request.turns > 0"),
        route("rare", when="request.model == 'gpt-mini' || request.hasTools"),
        route(
            "last",
            acceptWhen="answer.logprob.min > -3.0",
            fallback=[{"route": "a", **BACK}, {"route": "b", **BACK}],
        ),
        falls("a", "b"),
        falls("b"),
    )

    plan = world.settle(world.apply("RoutingPolicy", "chat", good))

    assert told(plan)[-1].startswith("Ready=True"), told(plan)


def test_a_stage_whose_answers_are_always_accepted_is_for_failures_alone() -> None:
    world = World()
    model(world, "llama", Available="True")
    good = policy("Cascade", route("first", when="true", acceptWhen="true"), LAST)

    assert world.settle(world.apply("RoutingPolicy", "chat", good)).entry is not None


class TestWhatTheGatewayCannotMeasure:
    GOOD = policy(
        "Router",
        route("thrifty", when="request.stream || tenant.budgetUsed > 0.9 || risk.tier == 'High'"),
        LAST,
    )

    def test_is_named_and_the_rest_is_in_force(self) -> None:
        world = World()
        model(world, "llama", Available="True")
        plan = world.settle(world.apply("RoutingPolicy", "chat", self.GOOD))

        assert (
            "SpecHonored=False NotSupportedHere: spec.routes[thrifty].when: nothing measures "
            "risk.tier yet; it has no value, so what reads it does not hold; "
            "spec.routes[thrifty].when: nothing measures tenant.budgetUsed yet; "
            "it has no value, so what reads it does not hold"
        ) == told(plan)[2]
        assert told(plan)[-1].startswith("Ready=True Serving")
        assert plan.entry is not None
        assert ["NotSupportedHere", "Serving"] == [note.reason for note in plan.notes]

    def test_is_named_also_where_it_has_a_value(self) -> None:
        world = World()
        model(world, "llama", Available="True")
        modes = policy("Router", route("thrifty", when="region.mode == 'Safe'"), LAST)
        plan = world.settle(world.apply("RoutingPolicy", "chat", modes))

        assert (
            "SpecHonored=False NotSupportedHere: spec.routes[thrifty].when: nothing measures "
            "region.mode yet; it is Full in every request"
        ) == told(plan)[2]


@pytest.mark.parametrize(
    ("runtime", "loss", "honored"),
    [
        ("trtllm-serve", "Continue", False),
        ("trtllm-serve", "Error", True),
        ("triton-llmapi", "Continue", True),
    ],
)
def test_a_runtime_that_cannot_go_on_with_an_answer_is_said_to_be_one(
    runtime: str, loss: str, honored: bool
) -> None:
    world = World()
    model(world, "llama", runtime, Available="True")
    good = policy("Single", route("only", streaming={"onUpstreamLoss": loss}))
    plan = world.settle(world.apply("RoutingPolicy", "chat", good))

    said = (
        "SpecHonored=False NotSupportedHere: spec.routes[only].streaming.onUpstreamLoss: chats "
        "with llama do not go on at another pod, since runtime.type trtllm-serve would begin a new "
        "answer; their streams end with the error"
    )
    assert (HONORED if honored else said) == told(plan)[2]
    assert plan.entry is not None


class TestInstructions:
    """Of a verifier, in a ConfigMap."""

    GOOD = policy(
        "Single", route("only", verifier=TOLD_BY, acceptWhen="answer.verifier.score > 0.5")
    )

    def world(self) -> tuple[World, Key]:
        world = World()
        model(world, "llama", Available="True")
        world.documents[MAP] = Document({"prompt": b"Is it JSON?"})
        return world, world.apply("RoutingPolicy", "chat", self.GOOD)

    def test_are_read_and_told_to_gateways(self) -> None:
        world, key = self.world()

        assert "Is it JSON?" == _instructions(world, key)

    def test_that_change_wake_the_policy(self) -> None:
        world, key = self.world()

        config_map = {"kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": "judging"}}
        assert key in world.wakes(config_map)

    @pytest.mark.parametrize(
        ("found", "says"),
        [
            (None, 'ResolvedRefs=False ConfigMapNotFound: {}: there is no ConfigMap "judging"'),
            (
                Document({}),
                'ResolvedRefs=False KeyNotFound: {}: ConfigMap "judging" has no entry "prompt"',
            ),
            (
                Unreadable("403 Forbidden"),
                (
                    'ResolvedRefs=Unknown SourceUnreadable: {}: ConfigMap "judging" cannot be read '
                    "(403 Forbidden); what was known before stays in force"
                ),
            ),
        ],
    )
    def test_that_are_gone_stay_as_they_were(
        self, found: Document | Unreadable | None, says: str
    ) -> None:
        world, key = self.world()
        world.settle(key)
        world.documents = {} if found is None else {MAP: found}

        assert "Is it JSON?" == _instructions(world, key)
        field = "spec.routes[only].verifier.instructionsKeyRef"
        assert says.format(field) == told(world.settle(key))[1]

    def test_that_nobody_could_read_yet_hold_the_policy_back_without_calling_it_wrong(self) -> None:
        world, key = self.world()
        world.documents = {MAP: Unreadable("timeout")}
        plan = world.settle(key)

        assert None is plan.entry
        assert told(plan)[0].startswith("ResolvedRefs=Unknown SourceUnreadable: ")
        assert told(plan)[-1].startswith("Ready=Unknown SourceUnreadable: ")

    def test_that_are_not_named_are_the_gateways_own(self) -> None:
        world = World()
        model(world, "llama", Available="True")
        said = policy(
            "Single", route("only", verifier=JUDGED, acceptWhen="answer.verifier.score > 0.5")
        )
        key = world.apply("RoutingPolicy", "chat", said)

        assert "" == _instructions(world, key)

    def test_a_verifier_that_is_not_there_is_named(self) -> None:
        world, key = self.world()
        world.apply(
            "RoutingPolicy",
            "chat",
            policy(
                "Single",
                route(
                    "only",
                    verifier={"modelRef": {"name": "judge"}},
                    acceptWhen="answer.verifier.score > 0.5",
                ),
            ),
        )

        assert (
            "ResolvedRefs=False ModelNotFound: spec.routes[only].verifier: "
            'there is no ModelDeployment "judge" in this namespace'
        ) == told(world.settle(key))[1]


def test_a_variant_that_comes_later_brings_the_policy_into_force() -> None:
    world = World()
    target = {"modelRef": {"name": "llama"}, "variants": ["int4"]}
    key = world.apply("RoutingPolicy", "chat", policy("Single", route("only", targets=[target])))
    llama = world.apply("ModelDeployment", "llama", {"variants": [{"name": "fp8"}]})
    assert None is world.settle(key).entry

    world.apply("ModelDeployment", "llama", {"variants": [{"name": "fp8"}, {"name": "int4"}]})

    assert key in world.wakes(world.objects[llama])
    plan = world.settle(key)
    assert (FOUND, EVERYWHERE) == (told(plan)[1], told(plan)[3])
    assert None is not plan.entry


def _instructions(world: World, key: Key) -> str:
    told_to = body(world.settle(key)).routes[0].verifier
    assert told_to is not None
    return str(told_to.instructions)
