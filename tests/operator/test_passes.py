from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from headgate_api.errors import (
    Conflict,
    Forbidden,
    HeadgateError,
    Invalid,
    Unavailable,
)
from headgate_api.snapshot import Entry
from headgate_controllers.contract import (
    Cache,
    Document,
    Environment,
    Found,
    Key,
    Manifest,
    Missing,
    Note,
    Plan,
    Programmed,
)
from headgate_operator.cache import NOT_FETCHED, View
from headgate_operator.metrics import ENDS
from headgate_operator.passes import Passes
from headgate_operator.store import Store

from .fake_api import FakeApi
from .fakes import TENANTS, secret, tenant

ACME = Key("TenantQuota", "chat", "acme")
HERE = Environment(region="here", image="none", namespace="headgate")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Scene:
    """A pass over one TenantQuota, and everything it may touch, in one hand."""

    api: FakeApi = field(default_factory=FakeApi)
    store: Store = field(default_factory=Store)
    heard: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    error: Exception | None = None
    entry: Entry | None = None
    plan: Plan | None = None
    controller: Any = TENANTS

    def __post_init__(self) -> None:
        self.store.put(self.api.put(tenant("acme", "chat")))
        everything = cast(Any, self)
        self.passes = Passes(
            self.controller,
            HERE,
            self.api,
            self.view,
            writer=everything,
            snapshot=everything,
            recorder=everything,
            queue=everything,
            now=lambda: NOW,
        )

    def view(self, documents: Mapping[Key, Found]) -> View:
        everything = cast(Any, self)
        return View(self.store, everything, everything, everything, documents)

    # Snapshot and gateways.

    def accepted(self, key: Key) -> Entry | None:
        return self.entry

    def accept(self, key: Key, entry: Entry | None) -> None:
        self.entry = entry

    def programmed(self, key: Key, generation: int) -> Programmed:
        return Programmed("NoGateways")

    # Writer and recorder.

    async def write(self, owner: Manifest, plan: Plan) -> bool:
        if self.error:
            raise self.error
        self.plan = plan
        return True

    async def tell(self, about: Manifest, notes: tuple[Note, ...], *, flipped: bool) -> None:
        self.told += [note.sentence for note in notes]

    async def say(self, about: Manifest, note: Note) -> None:
        self.told.append(f"{note.reason}: {note.sentence}")

    # Queue, and recorder once more.

    def retry(self, key: Key, *, not_before: float | None = None) -> None:
        self.heard.append("retry" if not_before is None else f"retry not before {not_before}")

    def forget(self, key: Key) -> None:
        self.heard.append("forget")

    def add_after(self, key: Key, seconds: float) -> None:
        self.heard.append(f"after {seconds}")


def ended(end: str) -> float:
    labels = {"controller": "TenantQuota", "result": end}
    return REGISTRY.get_sample_value("headgate_reconcile_total", labels) or 0.0


@pytest.mark.parametrize(
    ("given", "end", "heard", "told"),
    [
        (None, "success", ["forget"], []),
        (Conflict("somebody else wrote it"), "unavailable", ["retry"], []),
        (Unavailable("later", after=7.0), "unavailable", ["retry not before 7.0"], []),
        (Invalid("no such field"), "terminal", ["forget"], ["WriteRefused: no such field"]),
        (Forbidden("quota"), "terminal", ["retry not before 30.0"], ["WriteRefused: quota"]),
        (KeyError("spec"), "bug", ["retry"], []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_every_end_is_counted_and_queued(
    given: Exception | None, end: str, heard: list[str], told: list[str]
) -> None:
    scene = Scene(error=given)
    before = {e: ended(e) for e in ENDS}

    await scene.passes.run(ACME)

    assert (heard, told) == (scene.heard, scene.told)
    assert before | {end: before[end] + 1} == {e: ended(e) for e in ENDS}


async def test_a_refusal_is_told_once_until_it_is_over() -> None:
    scene = Scene(error=Forbidden("quota"))
    for error in (Forbidden("quota"), Forbidden("role"), None, Forbidden("role")):
        scene.error = error
        await scene.passes.run(ACME)
    assert ["quota", "role", "role"] == [told.removeprefix("WriteRefused: ") for told in scene.told]


async def test_a_plan_says_when_to_come_back() -> None:
    def plan(seen: Any, now: datetime) -> Plan:
        return Plan(status={}, requeue_after=5.0)

    scene = Scene(controller=replace(TENANTS, plan=plan))
    await scene.passes.run(ACME)
    assert ["forget", "after 5.0"] == scene.heard


async def test_a_pass_reads_the_secret_that_its_object_names() -> None:
    scene = Scene()
    scene.api.put({**secret("acme", "chat"), "data": {"key": "YQ=="}})
    await scene.passes.run(ACME)
    assert scene.plan is not None
    assert "1 keys" == scene.plan.status["conditions"][0]["message"]


async def test_what_a_look_finds_lacking_is_read_and_looked_at_again() -> None:
    revision = Key("ControllerRevision", "chat", "acme-1")
    looks: list[Found] = []

    def observe(key: Key, cache: Cache, env: Environment) -> Any:
        looks.append(cache.document(revision))
        return TENANTS.observe(key, cache, env)

    scene = Scene(controller=replace(TENANTS, observe=observe, lacks=lambda _: [revision]))
    manifest = {"apiVersion": "apps/v1", "kind": revision.kind, "data": {"spec": {"a": 1}}}
    scene.api.put({**manifest, "metadata": {"name": revision.name, "namespace": "chat"}})
    await scene.passes.run(ACME)
    assert [NOT_FETCHED, Document({"spec": b'{"a": 1}'})] == looks


async def test_a_missing_secret_takes_the_tenant_out_of_force() -> None:
    scene = Scene()
    scene.api.put({**secret("acme", "chat"), "data": {"key": "YQ=="}})
    await scene.passes.run(ACME)
    scene.api.objects.pop(("Secret", "chat", "acme"))
    await scene.passes.run(ACME)
    assert scene.entry is None


@pytest.mark.parametrize("error", [Unavailable("timeout"), Forbidden("not yours")], ids=str)
async def test_an_unreadable_secret_keeps_what_was_known_and_is_read_again(
    error: HeadgateError,
) -> None:
    scene = Scene()
    scene.api.put({**secret("acme", "chat"), "data": {"key": "YQ=="}})
    await scene.passes.run(ACME)
    known, scene.heard = scene.entry, []
    scene.api.failures["get Secret"] = [error]

    await scene.passes.run(ACME)

    assert known is not None
    assert known == scene.entry
    assert ["retry"] == scene.heard
    assert scene.plan is not None
    assert "SourceUnreadable" == scene.plan.status["conditions"][0]["reason"]


async def test_a_deleted_object_goes_out_of_force_at_once() -> None:
    scene = Scene()
    scene.api.put({**secret("acme", "chat"), "data": {"key": "YQ=="}})
    await scene.passes.run(ACME)
    scene.store.drop(ACME)
    await scene.passes.run(ACME)
    assert scene.entry is None


async def test_documents_of_one_pass_are_not_there_for_the_next() -> None:
    view = Scene().view({Key("Secret", "chat", "acme"): Document({"key": b"a"})})
    assert Document({"key": b"a"}) == view.document(Key("Secret", "chat", "acme"))
    other = Scene().view({}).document(Key("Secret", "chat", "acme"))
    assert not isinstance(other, Document | Missing)
