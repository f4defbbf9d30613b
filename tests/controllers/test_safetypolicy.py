from typing import Any

import pytest

from headgate_api.snapshot import InputRule, SafetyBody

from .world import World, body, told

CARD = r"\b\d{16}\b"


def spec(pattern: str = CARD, *, mode: str = "Enforce", **examples: list[str]) -> dict[str, Any]:
    rule = {
        "name": "cards",
        "stages": ["Input"],
        "pattern": pattern,
        "action": "Refuse",
        "examples": {"positive": ["4111111111111111"], "negative": ["a card"]} | examples,
    }
    return {"appliesTo": {"tenants": ["acme-*"]}, "rollout": {"mode": mode}, "rules": [rule]}


def test_gateways_are_told_the_rules_and_whom_they_bind() -> None:
    world = World()
    plan = world.settle(world.apply("SafetyPolicy", "cards", spec()))

    assert SafetyBody(tenants=("acme-*",), rules=(InputRule(name="cards", pattern=CARD),)) == body(
        plan
    )
    assert plan.entry is not None
    assert ("input-rules",) == plan.entry.requires
    assert (
        "Accepted=True PolicyAccepted: every rule does what its examples say",
        "ResolvedRefs=True RefsResolved: everything that the object names was found",
        "Programmed=True AllGateways: every Ready gateway enforces generation 1",
        "Ready=True Enforced: every gateway enforces the rules",
    ) == told(plan)


def test_a_shadow_policy_says_that_it_lets_everything_pass() -> None:
    world = World()
    plan = world.settle(world.apply("SafetyPolicy", "cards", spec(mode="Shadow")))

    assert body(plan).shadow
    assert (
        "Ready=True Shadowing: every gateway counts what the rules match and lets it pass"
    ) == told(plan)[-1]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (
            spec("(?=a)b"),
            (
                "PatternUnsupported: spec.rules[cards].pattern: invalid perl operator: (?=; "
                "write RE2, without look-around"
            ),
        ),
        (
            spec(positive=["4111 1111 1111 1111"]),
            (
                "ExampleFailed: spec.rules[cards].examples.positive[0]: "
                'the pattern does not match "4111 1111 1111 1111"; it must'
            ),
        ),
        (
            spec(negative=["fine", "1234567812345678"]),
            (
                "ExampleFailed: spec.rules[cards].examples.negative[1]: "
                'the pattern matches "1234567812345678"; it must not'
            ),
        ),
    ],
)
def test_a_rule_that_does_not_do_what_it_says_is_refused(
    bad: dict[str, Any], sentence: str
) -> None:
    world = World()
    key = world.apply("SafetyPolicy", "cards", bad)
    plan = world.settle(key)
    assert (
        f"Accepted=False {sentence}",
        f"Programmed=False {sentence.split(':', maxsplit=1)[0]}: nothing of it is in force",
        f"Ready=False {sentence}",
    ) == told(plan)
    assert plan.entry is None


def test_after_a_bad_edit_the_last_accepted_rules_stay_in_force() -> None:
    world = World()
    key = world.apply("SafetyPolicy", "cards", spec())
    good = world.settle(key).entry
    world.apply("SafetyPolicy", "cards", spec(negative=["1234567812345678"]))
    plan = world.settle(key)

    assert good == plan.entry
    assert (
        "Programmed=True KeptLastAccepted: generation 1, accepted last, stays in force"
    ) == told(plan)[1]
    assert ["ExampleFailed"] == [str(note.reason) for note in plan.notes]
