from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from headgate_api.errors import Invalid, TerminalError, Unavailable
from headgate_api.labels import APPLIED
from headgate_controllers.contract import Key, Manifest, Plan, key_of
from headgate_operator.store import Store
from headgate_operator.writer import Writer

from .fake_api import FakeApi
from .fakes import deployment, model

CHILD = Key("Deployment", "chat", "llama")


@dataclass
class Wall:
    """A writer, what it writes to and what it knows."""

    api: FakeApi = field(default_factory=FakeApi)
    store: Store = field(default_factory=Store)
    owner: Manifest = field(init=False)
    writer: Writer = field(init=False)
    woken: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.owner = self.api.put(model("llama", "chat"))
        self.store.put(self.owner)
        self.writer = Writer(self.api, self.store, self)

    def writing(self, key: Key) -> AbstractContextManager[None]:
        return nullcontext()

    def wrote(self, manifest: Manifest, *, by: Key | None) -> None:
        self.store.put(manifest)
        if by is None:
            self.woken.append(key_of(manifest))

    def plan(self, status: Any = None, **spec: Any) -> Plan:
        child = deployment({**self.owner, "spec": {**self.owner["spec"], **spec}})
        return Plan(status=status or {"replicas": 1}, wanted=(child,))


async def test_the_first_pass_writes_children_and_then_status() -> None:
    wall = Wall()
    assert await wall.writer.write(wall.owner, wall.plan())
    assert ["apply Deployment/llama gently", "status ModelDeployment/llama"] == wall.api.calls


async def test_a_second_pass_that_wants_the_same_writes_nothing() -> None:
    wall = Wall()
    await wall.writer.write(wall.owner, wall.plan())
    wall.api.calls.clear()

    assert not await wall.writer.write(wall.owner, wall.plan())
    assert [] == wall.api.calls


async def test_a_changed_child_is_applied_and_the_status_left_alone() -> None:
    wall = Wall()
    await wall.writer.write(wall.owner, wall.plan())
    wall.api.calls.clear()

    await wall.writer.write(wall.owner, wall.plan(replicas=3))

    assert ["apply Deployment/llama"] == wall.api.calls


async def test_an_edit_by_hand_is_healed() -> None:
    wall = Wall()
    await wall.writer.write(wall.owner, wall.plan())
    there = wall.api.objects[CHILD]
    wall.store.put(wall.api.put({**there, "spec": {"replicas": 9}}))
    wall.api.calls.clear()

    await wall.writer.write(wall.owner, wall.plan())

    assert ["apply Deployment/llama"] == wall.api.calls


async def test_a_status_of_the_child_is_no_edit() -> None:
    wall = Wall()
    await wall.writer.write(wall.owner, wall.plan())
    there = wall.api.objects[CHILD]
    wall.store.put(wall.api.put({**there, "status": {"readyReplicas": 1}}))
    wall.api.calls.clear()

    await wall.writer.write(wall.owner, wall.plan())

    assert [] == wall.api.calls


async def test_a_new_leader_applies_each_child_once() -> None:
    """Somebody may have edited it while nobody led."""
    wall = Wall()
    await wall.writer.write(wall.owner, wall.plan())
    wall.writer = Writer(wall.api, wall.store, wall)
    wall.api.calls.clear()

    await wall.writer.write(wall.owner, wall.plan())
    await wall.writer.write(wall.owner, wall.plan())

    assert ["apply Deployment/llama"] == wall.api.calls


async def test_a_pass_that_scales_a_child_is_followed_by_another() -> None:
    """A cohort without pods is deleted by the next pass, and nobody else might ask for one."""
    wall = Wall()
    await wall.writer.write(wall.owner, wall.plan())
    assert [] == wall.woken

    await wall.writer.write(wall.owner, Plan(status={"replicas": 1}, scaled=((CHILD, 0),)))

    assert [CHILD] == wall.woken


async def test_a_spec_that_changes_while_its_status_is_written_gets_a_pass_of_its_own() -> None:
    wall = Wall()
    seen = wall.owner
    spec = {**seen["spec"], "replicas": 7}
    wall.api.put({**seen, "spec": spec})  # what the watch tells only after our own write

    await wall.writer.write(seen, Plan(status={"replicas": 1}))

    assert [key_of(seen)] == wall.woken
    await wall.writer.write(known(wall), Plan(status={"replicas": 7}))
    assert [key_of(seen)] == wall.woken


def known(wall: Wall) -> Manifest:
    found = wall.store.get(key_of(wall.owner))
    assert found is not None
    return found


async def test_an_unwanted_child_is_deleted_once_and_an_absent_one_never() -> None:
    wall = Wall()
    await wall.writer.write(wall.owner, wall.plan())
    wall.api.calls.clear()
    absent = Key("Deployment", "chat", "other")

    await wall.writer.write(wall.owner, Plan(status={"replicas": 1}, unwanted=(CHILD, absent)))

    assert ["delete Deployment/llama"] == wall.api.calls


async def test_an_object_of_somebody_else_is_not_taken_over() -> None:
    wall = Wall()
    wall.api.put({**deployment(wall.owner), "metadata": {"name": "llama", "namespace": "chat"}})

    with pytest.raises(TerminalError, match="Deployment chat/llama exists and belongs to some"):
        await wall.writer.write(wall.owner, wall.plan())

    assert APPLIED not in wall.api.objects[CHILD]["metadata"].get("annotations", {})


async def test_our_own_child_that_the_watch_has_not_told_yet_is_taken() -> None:
    wall = Wall()
    await wall.writer.write(wall.owner, wall.plan())
    wall.store.drop(CHILD)
    wall.api.calls.clear()

    await wall.writer.write(wall.owner, wall.plan(replicas=2))

    assert ["apply Deployment/llama gently", "apply Deployment/llama"] == wall.api.calls


async def test_status_is_written_even_when_a_child_is_refused() -> None:
    wall = Wall()
    wall.api.failures["apply"] = [Invalid("spec.replicas: must not be negative")]

    with pytest.raises(Invalid):
        await wall.writer.write(wall.owner, wall.plan())

    assert ["status ModelDeployment/llama"] == wall.api.calls


async def test_nothing_more_is_written_while_the_server_is_away() -> None:
    wall = Wall()
    wall.api.failures["apply"] = [Unavailable("away")]

    with pytest.raises(Unavailable):
        await wall.writer.write(wall.owner, wall.plan())

    assert [] == wall.api.calls


async def test_the_status_of_a_deleted_object_is_nobodys_business() -> None:
    wall = Wall()
    del wall.api.objects[key_of(wall.owner)]

    assert not await wall.writer.write(wall.owner, Plan(status={"replicas": 1}))


async def test_nothing_is_remembered_of_an_owner_that_is_gone() -> None:
    wall = Wall()
    await wall.writer.write(wall.owner, wall.plan())
    wall.writer.forget(key_of(wall.owner))
    assert {} == wall.writer._settled
