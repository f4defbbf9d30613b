from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest

from headgate_api.snapshot import ApiKey, RequestLimits, TenantBody
from headgate_controllers.contract import Key, Programmed, Unreadable

from .world import EVERYWHERE as ALL_GATEWAYS, NAMESPACE, START, World, body, told

LONG = "hg_" + "a" * 40
OTHER = "hg_" + "b" * 40
GOOD = "Accepted=True QuotaAccepted: the tenant and its keys are this object's alone"
FOUND = "ResolvedRefs=True RefsResolved: everything that the object names was found"
EVERYWHERE = "Programmed=True AllGateways: every Ready gateway enforces generation 1"
ENFORCED = "Ready=True Enforced: every gateway knows the tenant and its keys"


def spec(*secrets: str, keys: Any = (), **more: Any) -> dict[str, Any]:
    credentials = [
        {"name": f"c{i}", "apiKeys": {"secretRef": {"name": name}, "keys": list(keys)}}
        for i, name in enumerate(secrets)
    ]
    return {"credentials": credentials, **more}


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    given: str
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"s": {"ci": LONG}})
    spec: Mapping[str, Any] = field(default_factory=lambda: spec("s"))
    state: Programmed = ALL_GATEWAYS
    then: tuple[str, ...]
    keys: tuple[str, ...] = ("ci",)
    expired: int = 0
    requeue: float | None = None

    def __str__(self) -> str:
        return f"given {self.given}, then {self.then[-1]}"


SECRET = 'spec.credentials[c0].apiKeys.secretRef: Secret "s"'
SHORT = f'{SECRET} has an entry "ci" of 7 characters; a key has 32 or more'
BINARY = (
    f'{SECRET} has an entry "ci" that no client can send; a key is of printable ASCII characters'
)
LONGER = f'{SECRET} has an entry "ci" of 8193 characters; a key has at most 8192'
EMPTY = f"{SECRET} has no entries; each one would be a key"
MISSING = 'spec.credentials[c0].apiKeys.secretRef: there is no Secret "s"'
GONE = 'spec.credentials[c0].apiKeys.keys[gone]: Secret "s" has no entry "gone"'
ALL_GOOD = (GOOD, FOUND, EVERYWHERE, ENFORCED)
CASES = (
    Case(given="a tenant with a key", then=ALL_GOOD),
    Case(
        given="a key with the line end that echo adds",
        secrets={"s": {"ci": LONG + "\n"}},
        then=ALL_GOOD,
    ),
    Case(
        given="no Secret",
        secrets={},
        then=(
            GOOD,
            f"ResolvedRefs=False SecretNotFound: {MISSING}",
            EVERYWHERE,
            f"Ready=False SecretNotFound: {MISSING}",
        ),
        keys=(),
    ),
    Case(
        given="a short key beside a good one",
        secrets={"s": {"ci": "secret7", "good": LONG}},
        then=(
            GOOD,
            f"ResolvedRefs=False KeyTooShort: {SHORT}",
            EVERYWHERE,
            f"Ready=False KeyTooShort: {SHORT}",
        ),
        keys=("good",),
    ),
    *(
        Case(
            given=f"a key {what} beside a good one",
            secrets={"s": {"ci": key, "good": LONG}},
            then=(
                GOOD,
                f"ResolvedRefs=False KeyUnusable: {sentence}",
                EVERYWHERE,
                f"Ready=False KeyUnusable: {sentence}",
            ),
            keys=("good",),
        )
        for what, key, sentence in (
            ("of more than ASCII", 32 * "\u00fc", BINARY),
            ("with a control character", 32 * "a" + "\0" + "a", BINARY),
            ("of two lines", f"{LONG}\n{OTHER}", BINARY),
            ("longer than a header", 8193 * "a", LONGER),
        )
    ),
    Case(given="a key with a space in it", secrets={"s": {"ci": f"{LONG} 1"}}, then=ALL_GOOD),
    Case(given="the longest key", secrets={"s": {"ci": 8192 * "a"}}, then=ALL_GOOD),
    Case(
        given="an empty Secret",
        secrets={"s": {}},
        then=(
            GOOD,
            f"ResolvedRefs=False SecretEmpty: {EMPTY}",
            EVERYWHERE,
            f"Ready=False SecretEmpty: {EMPTY}",
        ),
        keys=(),
    ),
    Case(
        given="an expiry for an entry that is not there",
        spec=spec("s", keys=[{"name": "gone", "expiresAt": "2030-01-01T00:00:00Z"}]),
        then=(
            GOOD,
            f"ResolvedRefs=False KeyNotFound: {GONE}",
            EVERYWHERE,
            f"Ready=False KeyNotFound: {GONE}",
        ),
    ),
    Case(
        given="a key that expired this second, and one that expires in a minute",
        secrets={"s": {"old": OTHER, "ci": LONG}},
        spec=spec(
            "s",
            keys=[
                {"name": "old", "expiresAt": "2026-01-01T00:00:00Z"},
                {"name": "ci", "expiresAt": "2026-01-01T00:01:00Z"},
            ],
        ),
        then=(GOOD, FOUND, EVERYWHERE, ENFORCED),
        expired=1,
        requeue=60.0,
    ),
    Case(
        given="a gateway that is behind",
        state=Programmed("GatewaysBehind", ("gateway-1",)),
        then=(
            GOOD,
            FOUND,
            "Programmed=False GatewaysBehind: a Ready gateway does not enforce generation 1 yet",
            "Ready=Unknown GatewaysBehind: a Ready gateway does not enforce generation 1 yet",
        ),
    ),
    Case(
        given="no gateway",
        state=Programmed("NoGateways"),
        then=(
            GOOD,
            FOUND,
            "Programmed=Unknown NoGateways: no gateway is Ready, so nobody enforces it",
            "Ready=Unknown NoGateways: no gateway is Ready, so nobody enforces it",
        ),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_plan(case: Case) -> None:
    world = World(state=case.state)
    for name, data in case.secrets.items():
        world.secret(name, **data)
    plan = world.settle(world.apply("TenantQuota", "acme", case.spec))

    assert case.then == told(plan)
    assert case.keys == tuple(key.name for key in body(plan).keys)
    assert (len(case.keys), case.expired) == (
        plan.status["keysActive"],
        plan.status["keysExpired"],
    )
    assert (case.requeue, "acme", 1) == (
        plan.requeue_after,
        plan.status["tenant"],
        plan.status["observedGeneration"],
    )


def test_gateways_are_told_digests_and_who_holds_them() -> None:
    world = World()
    world.secret("s", ci=LONG)
    keys = [{"name": "ci", "user": "ann", "tier": "premium", "expiresAt": "2026-02-01T00:00:00Z"}]
    about = spec(
        "s",
        keys=keys,
        tenant="acme-corp",
        allowedModels=["llama-*"],
        priority="Critical",
        grants=["Explain"],
    )
    plan = world.settle(world.apply("TenantQuota", "acme", about))

    assert TenantBody(
        tenant="acme-corp",
        keys=(
            ApiKey(
                sha256=digest(LONG),
                name="ci",
                secret="s",
                user="ann",
                tier="premium",
                expires_at=1769904000,
            ),
        ),
        allowed_models=("llama-*",),
        priority="Critical",
        grants=("Explain",),
    ) == body(plan)
    assert LONG not in repr((plan, world.plan(Key("TenantQuota", NAMESPACE, "acme"))))


@pytest.mark.parametrize(
    ("limits", "known", "requires"),
    [
        (None, None, ()),
        ({}, None, ()),
        ({"request": {}}, None, ()),
        (
            {"request": {"maxTotalTokens": 8000}},
            RequestLimits(max_total_tokens=8000),
            ("request-budget",),
        ),
        (
            {"request": {"maxTotalTokens": 8000, "maxCalls": 6}},
            RequestLimits(max_total_tokens=8000, max_calls=6),
            ("request-budget",),
        ),
    ],
)
def test_gateways_are_told_what_a_request_may_use(
    limits: dict[str, Any] | None, known: RequestLimits | None, requires: tuple[str, ...]
) -> None:
    world = World()
    world.secret("s", ci=LONG)
    said = {} if limits is None else {"limits": limits}
    plan = world.settle(world.apply("TenantQuota", "acme", spec("s", **said)))

    assert known == body(plan).request
    assert plan.entry is not None
    assert requires == plan.entry.requires


def test_a_tenant_is_of_standard_priority_and_has_no_rights_unless_it_says_so() -> None:
    world = World()
    world.secret("s", ci=LONG)
    plan = world.settle(world.apply("TenantQuota", "acme", spec("s")))

    assert ("Standard", ()) == (body(plan).priority, body(plan).grants)


class TestSecrets:
    def test_a_secret_that_is_gone_stops_its_keys_at_once(self) -> None:
        world = World()
        gone, _ = world.secret("s", ci=LONG), world.secret("t", cd=OTHER)
        key = world.apply("TenantQuota", "acme", spec("s", "t"))
        assert ["ci", "cd"] == [key.name for key in body(world.settle(key)).keys]

        del world.documents[gone]
        assert ["cd"] == [key.name for key in body(world.settle(key)).keys]

    def test_a_secret_that_cannot_be_read_keeps_its_keys_and_says_so(self) -> None:
        world = World()
        secret = world.secret("s", ci=LONG)
        key = world.apply("TenantQuota", "acme", spec("s"))
        world.settle(key)

        world.documents[secret] = Unreadable("403 Forbidden")
        world.apply("TenantQuota", "acme", spec("s", allowedModels=["llama"]))
        plan = world.settle(key)

        sentence = f"{SECRET} cannot be read (403 Forbidden); its keys stay in force"
        assert f"ResolvedRefs=Unknown SourceUnreadable: {sentence}" == told(plan)[1]
        assert f"Ready=Unknown SourceUnreadable: {sentence}" == told(plan)[3]
        assert [digest(LONG)] == [key.sha256 for key in body(plan).keys]
        assert ("llama",) == body(plan).allowed_models

    def test_another_secret_that_cannot_be_read_brings_no_keys(self) -> None:
        world = World()
        world.secret("s", ci=LONG)
        key = world.apply("TenantQuota", "acme", spec("s"))
        world.settle(key)

        world.documents[Key("Secret", NAMESPACE, "t")] = Unreadable("timeout")
        world.apply("TenantQuota", "acme", spec("t"))
        assert () == body(world.settle(key)).keys


class TestConflicts:
    def test_a_tenant_belongs_to_the_older_object_of_the_region(self) -> None:
        world = World()
        world.secret("s", ci=LONG)
        first = world.apply("TenantQuota", "acme", spec("s"), namespace="a")
        world.passes(1)
        second = world.apply("TenantQuota", "acme-2", spec("s", tenant="acme"))
        plan = world.settle(second)

        sentence = (
            'spec.tenant: "acme" belongs to the older TenantQuota a/acme; '
            "use another name, or delete one of the two"
        )
        assert (
            f"Accepted=False TenantConflict: {sentence}",
            "Programmed=False TenantConflict: nothing of it is in force",
            f"Ready=False TenantConflict: {sentence}",
        ) == told(plan)
        assert plan.entry is None

        gone = world.objects[first]
        world.delete(first)
        assert {first, second} == world.wakes(gone)
        assert ENFORCED == told(world.settle(second))[-1]

    def test_a_key_stays_with_the_tenant_that_has_it(self) -> None:
        world = World()
        world.secret("s", ci=LONG)
        world.secret("t", stolen=LONG, own=OTHER)
        thief = world.apply("TenantQuota", "aaa-older", spec("t"))
        world.passes(1)
        holder = world.apply("TenantQuota", "acme", spec("s"))
        world.settle(holder)

        plan = world.settle(thief)

        assert (
            'Accepted=False KeyConflict: entry "stolen" of Secret "t" is also a key of '
            "TenantQuota chat/acme; make a new key for one of the two"
        ) == told(plan)[0]
        assert ["own"] == [key.name for key in body(plan).keys]
        assert 30.0 == plan.requeue_after
        assert ENFORCED == told(world.settle(holder))[-1]

    def test_of_two_that_have_a_key_in_force_the_older_keeps_it(self) -> None:
        world = World()
        world.secret("s", ci=LONG)
        older = world.apply("TenantQuota", "older", spec("s"))
        world.passes(1)
        younger = world.apply("TenantQuota", "a-younger", spec("s"))
        both = [world.plan(older), world.plan(younger)]
        for key, plan in zip((older, younger), both, strict=True):
            assert plan.entry is not None
            world.in_force[key] = plan.entry

        assert ([], ["ci"]) == tuple(
            [key.name for key in body(world.settle(key)).keys] for key in (younger, older)
        )


def test_an_object_that_breaks_its_schema_keeps_the_last_accepted_version() -> None:
    world = World()
    world.secret("s", ci=LONG)
    key = world.apply("TenantQuota", "acme", spec("s"))
    entry = world.settle(key).entry

    world.apply("TenantQuota", "acme", spec("s", tenant=7))
    plan = world.settle(key)

    assert entry == plan.entry
    assert (
        "Programmed=True KeptLastAccepted: generation 1, accepted last, stays in force"
    ) == told(plan)[1]
    assert told(plan)[0].startswith("Accepted=False SpecInvalid: spec.tenant: ")


def test_an_entry_of_an_older_object_with_the_same_name_is_not_kept() -> None:
    world = World()
    world.secret("s", ci=LONG)
    key = world.apply("TenantQuota", "acme", spec("s"))
    world.settle(key)
    del world.objects[key]

    world.apply("TenantQuota", "acme", spec("s", tenant=7))
    assert world.settle(key).entry is None


def test_true_never_reverts_for_one_generation() -> None:
    world = World()
    world.secret("s", ci=LONG)
    key = world.apply("TenantQuota", "acme", spec("s"))
    before = world.settle(key).status

    world.state = Programmed("NoGateways")
    world.passes(60)
    assert before == world.settle(key).status

    world.apply("TenantQuota", "acme", spec("s", allowedModels=["x"]))
    assert "Ready=Unknown NoGateways" in told(world.settle(key))[-1]


def test_a_second_pass_changes_nothing_and_tells_nothing() -> None:
    world = World()
    world.secret("s", ci=LONG, short="x")
    key = world.apply("TenantQuota", "acme", spec("s"))
    first = world.settle(key)
    world.passes(5)
    second = world.settle(key)

    assert (first.status, first.entry) == (second.status, second.entry)
    assert (["KeyTooShort"], []) == (
        [str(note.reason) for note in first.notes],
        [str(note.reason) for note in second.notes],
    )


def test_a_secret_wakes_those_who_name_it() -> None:
    world = World()
    world.secret("s", ci=LONG)
    key = world.apply("TenantQuota", "acme", spec("s"))
    world.apply("TenantQuota", "other", spec("t"))
    secret = {"kind": "Secret", "metadata": {"name": "s", "namespace": NAMESPACE}}

    assert {key} == world.wakes(secret)
    assert START == world.now
