"""What is written in which order. Against a real API server: test_process.py."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from headgate_api.errors import Forbidden, HeadgateError, Unavailable
from headgate_api.snapshot import (
    LABEL,
    POINTER,
    POINTER_KEY,
    SHARD_KEY,
    Entry,
    Identity,
    Pointer,
    TenantBody,
)
from headgate_controllers.contract import Key
from headgate_kube.client import Object
from headgate_kube.resources import Resource
from headgate_operator.owner import owners
from headgate_operator.pointer import StaleLeader
from headgate_operator.publisher import Publisher
from headgate_policy.snapshot import decode_pointer, decode_shard, encode_pointer, make_entry

from .fake_api import FakeApi

ACME = Key("TenantQuota", "chat", "acme")
SPACE = "headgate"


def entry(tenant: str, generation: int = 1, key: Key = ACME) -> Entry:
    identity = Identity(kind="TenantQuota", namespace=key.namespace, name=key.name)
    body = TenantBody(tenant=tenant)
    return make_entry(identity, uid="u", generation=generation, body=body)


def publisher(api: FakeApi, leads: Callable[[], bool] = lambda: True, **more: Any) -> Publisher:
    return Publisher(api, SPACE, leads=leads, **more)


def pointer(api: FakeApi) -> Pointer:
    return decode_pointer(api.objects["ConfigMap", SPACE, POINTER]["data"][POINTER_KEY])


def tenants(api: FakeApi) -> list[str]:
    """What a gateway would find, from the pointer on."""
    found = []
    for digest in filter(None, pointer(api).shards):
        shard = api.objects["ConfigMap", SPACE, f"{POINTER}-{digest}"]["data"][SHARD_KEY]
        found += [e.body for e in decode_shard(shard).entries]
    return sorted(bytes(body).decode() for body in found)


@asynccontextmanager
async def publishing(publisher: Publisher, epoch: int = 1) -> AsyncIterator[Callable[[], Any]]:
    """Run the publisher; the value waits for its next pointer."""
    written = asyncio.Event()
    before = publisher.published

    def told(news: Any) -> None:
        before(news)
        written.set()

    publisher.published = told

    async def next_pointer() -> None:
        await written.wait()
        written.clear()

    task = asyncio.create_task(publisher.run(epoch))
    try:
        await next_pointer()
        yield next_pointer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_fresh_install_gets_an_empty_snapshot() -> None:
    api = FakeApi()
    async with publishing(publisher(api)):
        assert (1, 1) == pointer(api).version
        assert [] == tenants(api)


async def test_shards_come_before_their_pointer_and_are_immutable() -> None:
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        api.calls.clear()
        subject.accept(ACME, entry("acme"))
        await next_pointer()

    (digest,) = filter(None, pointer(api).shards)
    wanted = [f"create ConfigMap/{POINTER}-{digest}", f"replace ConfigMap/{POINTER}"]
    assert wanted == api.calls
    shard = api.objects["ConfigMap", SPACE, f"{POINTER}-{digest}"]
    assert (True, "shard") == (shard["immutable"], shard["metadata"]["labels"][LABEL])
    assert ['{"tenant":"acme"}'] == tenants(api)


async def test_changes_that_come_together_make_one_pointer() -> None:
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        for number in range(50):
            key = Key("TenantQuota", "chat", f"t{number}")
            subject.accept(key, entry(key.name, key=key))
        await next_pointer()
    assert (1, 2) == pointer(api).version
    assert 50 == len(tenants(api))


async def test_an_equal_entry_is_no_change() -> None:
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        subject.accept(ACME, entry("acme"))
        await next_pointer()
        subject.accept(ACME, entry("acme"))
        assert (1, 2) == subject.since(ACME)
        subject.accept(ACME, entry("acme", generation=2))
        assert subject.since(ACME) is None
        await next_pointer()
        assert (1, 3) == subject.since(ACME)


async def test_a_new_leader_goes_on_from_what_is_in_force() -> None:
    api = FakeApi()
    first = publisher(api)
    async with publishing(first) as next_pointer:
        first.accept(ACME, entry("acme"))
        await next_pointer()

    second = publisher(api, holds={"TenantQuota": lambda e: [e.name]})
    await second.load()
    assert entry("acme") == second.accepted(ACME)
    assert [entry("acme")] == list(second.holders("TenantQuota", "acme"))
    assert (1, 2) == second.since(ACME)
    async with publishing(second, epoch=2):
        assert (2, 3) == pointer(api).version
        assert ['{"tenant":"acme"}'] == tenants(api)


async def test_a_deposed_leader_that_wakes_up_changes_nothing() -> None:
    api = FakeApi()
    old = publisher(api)
    async with publishing(old):
        pass
    new = publisher(api)
    await new.load()
    async with publishing(new, epoch=2):
        old.accept(ACME, entry("late"))
        with pytest.raises(StaleLeader):
            await old.run(1)
    assert (2, 2) == pointer(api).version
    assert [] == tenants(api)


async def test_no_pointer_is_written_once_the_lease_is_over() -> None:
    api = FakeApi()
    with pytest.raises(StaleLeader):
        await publisher(api, leads=lambda: False).run(1)
    assert {} == api.objects


async def test_a_write_whose_answer_was_lost_is_not_taken_for_another_leader() -> None:
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        there = api.objects["ConfigMap", SPACE, POINTER]
        ours = Pointer(schema=1, epoch=1, sequence=2, shards=())
        api.put({**there, "data": {POINTER_KEY: encode_pointer(ours).decode()}})
        subject.accept(ACME, entry("acme"))
        await next_pointer()
    assert (1, 3) == pointer(api).version


async def test_a_failed_write_is_tried_again_with_all_changes() -> None:
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        api.failures[f"replace ConfigMap/{POINTER}"] = [Unavailable("away")]
        subject.accept(ACME, entry("acme"))
        await next_pointer()
    assert ['{"tenant":"acme"}'] == tenants(api)


async def test_shards_stay_for_three_more_pointers() -> None:
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        names = []
        for generation in range(1, 7):
            subject.accept(ACME, entry("acme", generation))
            await next_pointer()
            names.append(f"{POINTER}-{next(filter(None, pointer(api).shards))}")
        subject.accept(ACME, None)
        await next_pointer()
        there = [name for name in names if ("ConfigMap", SPACE, name) in api.objects]
        subject.accept(ACME, entry("acme", 7))
        await next_pointer()  # what the pointer before left behind is gone by now
    kept = [name for name in names if ("ConfigMap", SPACE, name) in api.objects]
    assert names[3:] == there[-3:]
    assert names[2] not in kept


async def test_what_somebody_deletes_is_written_again() -> None:
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        subject.accept(ACME, entry("acme"))
        await next_pointer()
        for name in [n for kind, _, n in api.objects if n.startswith(POINTER)]:
            del api.objects["ConfigMap", SPACE, name]
            subject.lost(name)
        await next_pointer()
        assert ['{"tenant":"acme"}'] == tenants(api)
        assert (1, 3) == pointer(api).version


def edit(api: FakeApi, **change: Any) -> str:
    """Be somebody who edits the pointer; returns the version that a watch tells then."""
    there = api.objects["ConfigMap", SPACE, POINTER]
    meta = there["metadata"] | change.pop("metadata", {})
    version: str = api.put({**there, **change, "metadata": meta})["metadata"]["resourceVersion"]
    return version


@pytest.mark.parametrize("garbage", ["{", '{"schema":1,"epoch":0,"sequence":9,"shards":[]}', None])
async def test_a_pointer_that_somebody_edits_is_written_again(garbage: str | None) -> None:
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        subject.accept(ACME, entry("acme"))
        await next_pointer()
        data = {} if garbage is None else {POINTER_KEY: garbage}
        await subject.edited(edit(api, data=data))
        await next_pointer()
    assert (1, 3) == pointer(api).version
    assert ['{"tenant":"acme"}'] == tenants(api)


async def test_a_pointer_that_cannot_be_read_after_an_edit_is_written_again() -> None:
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        api.failures[f"get ConfigMap/{POINTER}"] = [Unavailable("away")]
        await subject.edited(edit(api, data={POINTER_KEY: "{"}))
        await next_pointer()
    assert (1, 2) == pointer(api).version


async def test_an_edit_that_leaves_what_the_pointer_says_is_left_alone() -> None:
    """Somebody's tool may put an annotation there, and put it there again after each write."""
    api = FakeApi()
    subject = publisher(api)
    async with publishing(subject):
        version = edit(api, metadata={"annotations": {"backup": "yes"}})
        assert not await subject._pointer.was_edited(version)
    assert (1, 1) == pointer(api).version


@dataclass
class SlowApi(FakeApi):
    """Answers a write of the pointer late, as a watch has told of it already."""

    written: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def replace(self, resource: Resource, body: Mapping[str, Any]) -> Object:
        answer = await super().replace(resource, body)
        self.written.set()
        await self.answer.wait()
        return answer


async def test_our_own_write_is_no_edit_though_a_watch_tells_it_before_its_answer() -> None:
    api = SlowApi()
    subject = publisher(api)
    async with publishing(subject) as next_pointer:
        subject.accept(ACME, entry("acme"))
        await api.written.wait()
        told = api.objects["ConfigMap", SPACE, POINTER]["metadata"]["resourceVersion"]
        edited = asyncio.create_task(subject._pointer.was_edited(told))
        await asyncio.sleep(0)
        assert not edited.done()
        api.answer.set()
        assert not await edited
        await next_pointer()


async def test_a_shard_that_cannot_be_read_costs_only_its_own_entries() -> None:
    api = FakeApi()
    first = publisher(api)
    async with publishing(first) as next_pointer:
        for name in ("acme", "other"):
            key = Key("TenantQuota", "chat", name)
            first.accept(key, entry(name, key=key))
        await next_pointer()
    broken = next(filter(None, pointer(api).shards))
    api.objects["ConfigMap", SPACE, f"{POINTER}-{broken}"]["data"] = {SHARD_KEY: "{"}

    second = publisher(api)
    await second.load()

    assert 1 == len(second.keys())


@pytest.mark.parametrize("error", [Forbidden("not yours"), Unavailable("away")], ids=str)
async def test_what_cannot_be_read_now_is_never_written_over(error: HeadgateError) -> None:
    api = FakeApi()
    first = publisher(api)
    async with publishing(first) as next_pointer:
        first.accept(ACME, entry("acme"))
        await next_pointer()
    (digest,) = filter(None, pointer(api).shards)
    api.failures[f"get ConfigMap/{POINTER}-{digest}"] = [error]
    second = publisher(api)

    with pytest.raises(type(error)):
        await second.load()
    await second.load()

    assert (ACME,) == second.keys()


async def test_the_snapshot_belongs_to_an_object_of_the_chart() -> None:
    api = FakeApi()
    owner = {"kind": "ConfigMap", "metadata": {"name": "chart", "namespace": SPACE, "uid": "c"}}
    api.put(owner)
    owned = await owners(api, SPACE, "chart")
    subject = Publisher(api, SPACE, leads=lambda: True, owners=owned)
    await subject.load()
    async with publishing(subject):
        found = api.objects["ConfigMap", SPACE, POINTER]["metadata"]["ownerReferences"]
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "name": "chart", "uid": "c"}
    assert [wanted] == found
