"""Snapshots in force: swapped whole, never backwards, kept on the volume, in small steps."""

import asyncio
import gc
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate_api.errors import TerminalError
from headgate_api.snapshot import (
    Entry,
    Identity,
    ModelBody,
    Pointer,
    RouteBody,
    RouteRule,
    SafetyBody,
    Target,
    TenantBody,
)
from headgate_gateway.routing.copies import SharedMap
from headgate_gateway.routing.tables import MOST_BOUND, Space, Tables
from headgate_gateway.snapshot_files import SnapshotFiles, SnapshotKeeper
from headgate_gateway.snapshots import STEP, Snapshots
from headgate_gateway.telemetry.trace_context import Sampler
from headgate_policy.snapshot import compile_shards, make_entry

from .conftest import KEY, MODEL, NAME, TENANT, api_key, cohort, entry, model
from .exchanges import Recorded

EXCHANGE = Recorded("GET", "/v1/models")
TRACE = Sampler().begin({})


def published(
    *entries: Entry, epoch: int = 1, sequence: int = 1
) -> tuple[Pointer, dict[str, bytes]]:
    shards = compile_shards(entries)
    pointer = Pointer(schema=1, epoch=epoch, sequence=sequence, shards=shards.digests)
    return pointer, shards.contents


async def took(snapshots: Snapshots, *entries: Entry, sequence: int = 1) -> list[str]:
    """Bring entries into force; return the shards that had to be fetched."""
    pointer, contents = published(*entries, sequence=sequence)
    missing = snapshots.missing(pointer)
    await snapshots.swap(pointer, {digest: contents[digest] for digest in missing})
    return missing


async def test_a_swap_replaces_what_changed_and_nothing_else() -> None:
    snapshots = Snapshots()
    await took(snapshots, MODEL, TENANT)
    before = snapshots.tables
    other = entry("TenantQuota", "other", TenantBody(tenant="other", keys=(api_key("k2"),)))
    fetched = await took(snapshots, MODEL, TENANT, other, sequence=2)

    assert 1 == len(fetched)
    assert 2 == len(snapshots.tables.keys)
    assert 1 == len(before.keys)  # a request that began before sees what it began with
    after = snapshots.tables.space("chat").models[NAME]
    assert before.space("chat").models[NAME] is after


async def test_what_is_no_longer_listed_is_gone() -> None:
    snapshots = Snapshots()
    await took(snapshots, MODEL, TENANT)
    await took(snapshots, MODEL, sequence=2)

    assert 0 == len(snapshots.tables.keys)
    await took(snapshots, sequence=3)
    assert {} == snapshots.tables.space("chat").models


async def test_a_name_that_changes_hands_belongs_to_its_new_owner() -> None:
    snapshots = Snapshots()
    await took(snapshots, model(cohort(), name="one"))
    await took(
        snapshots,
        model(cohort(), name="one", public_name="free"),
        model(cohort(), name="two"),
        sequence=2,
    )
    space = snapshots.tables.space("chat")

    assert ("two", "one") == (space.models[NAME].identity.name, space.models["free"].identity.name)


async def test_a_version_only_ever_rises() -> None:
    snapshots = Snapshots()
    await snapshots.swap(*published(epoch=2, sequence=5))

    versions = [(1, 9), (2, 4), (2, 5), (2, 6), (3, 1)]
    newer = [snapshots.newer(published(epoch=e, sequence=s)[0]) for e, s in versions]
    assert [False, False, False, True, True] == newer


async def test_what_came_from_the_volume_gives_way_to_any_version() -> None:
    snapshots = Snapshots()
    await snapshots.swap(*published(MODEL, epoch=9, sequence=9), provisional=True)

    assert snapshots.newer(published(epoch=0, sequence=1)[0])
    assert not snapshots.request(EXCHANGE, TRACE, 0.0, 0.0).loaded, "nobody is served by it"
    await snapshots.swap(*published(MODEL, epoch=0, sequence=1))
    assert snapshots.request(EXCHANGE, TRACE, 0.0, 0.0).loaded


async def test_an_object_that_means_more_than_we_know_stays_as_it_was() -> None:
    snapshots = Snapshots()
    await took(snapshots, TENANT)
    body = TenantBody(tenant="acme", keys=(api_key("another"),))
    newer = entry("TenantQuota", "acme", body, generation=2, requires=("telepathy",))
    await took(snapshots, newer, MODEL, sequence=2)

    identity = Identity(kind="TenantQuota", namespace="chat", name="acme")
    assert (identity,) == snapshots.report.kept
    assert [api_key(KEY)] == [c.key for c in snapshots.tables.keys.values()]
    await took(snapshots, newer, sequence=3)  # its shard did not change
    assert (identity,) == snapshots.report.kept
    await took(snapshots, TENANT, sequence=4)
    assert () == snapshots.report.kept


async def test_a_shard_that_cannot_be_read_leaves_everything_as_it_was() -> None:
    snapshots = Snapshots()
    await took(snapshots, MODEL)
    pointer, contents = published(TENANT, sequence=2)
    with pytest.raises(TerminalError, match="malformed shard"):
        await snapshots.swap(pointer, dict.fromkeys(contents, b"{"))

    assert 1 == snapshots.report.sequence
    assert NAME in snapshots.tables.space("chat").models
    assert gc.isenabled()


async def test_ten_thousand_tenants_are_taken_in_steps_between_which_others_run() -> None:
    """The clock moves only with the work: each reading of it costs a tenth of a step."""
    now, turns = 0.0, 0

    def clock() -> float:
        nonlocal now
        now += STEP / 10
        return now

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    snapshots = Snapshots(clock)
    pointer, contents = published(*many_tenants(1000))
    running = asyncio.create_task(other())
    await snapshots.swap(pointer, contents)
    running.cancel()

    assert 1000 == len(snapshots.tables.keys)
    assert turns >= len(contents)
    assert snapshots.longest_step < 2 * STEP


async def test_the_rules_of_one_policy_are_compiled_one_by_one() -> None:
    now, turns = 0.0, 0

    def clock() -> float:
        nonlocal now
        now += 2 * STEP
        return now

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    rules = [
        RouteRule(name=f"r{number}", when=f"request.turns == {number}", respond="Hi")
        for number in range(40)
    ]
    body = RouteBody(models=("m",), routes=(*rules, RouteRule(name="rest", respond="Hi")))
    snapshots = Snapshots(clock)
    running = asyncio.create_task(other())
    await snapshots.swap(*published(entry("RoutingPolicy", "front", body)))
    running.cancel()

    assert turns > 80
    assert 41 == len(snapshots.tables.space("chat").routes["m"].steps)


def many_tenants(count: int) -> list[Entry]:
    def one(number: int) -> Entry:
        body = TenantBody(tenant=f"t{number}", keys=(api_key(f"key-{number}"),))
        return entry("TenantQuota", f"t{number}", body)

    return [one(number) for number in range(count)]


# The volume


def test_a_snapshot_comes_back_from_the_volume(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path / "new" / "folder")
    pointer, contents = published(MODEL, TENANT)
    files.save(pointer, contents)

    assert (pointer, contents) == files.load()


def test_shards_that_are_no_longer_listed_leave_the_volume(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path)
    files.save(*published(MODEL, TENANT))
    pointer, contents = published(MODEL, sequence=2)
    files.save(pointer, {})

    assert (pointer, contents) == files.load()
    assert {"pointer.json", *(f"shard-{digest}.json" for digest in contents)} == {
        path.name for path in tmp_path.iterdir()
    }


@pytest.mark.parametrize("harm", ["missing shard", "wrong shard", "half pointer", "nothing"])
def test_a_volume_that_is_not_whole_counts_as_empty(tmp_path: Path, harm: str) -> None:
    files = SnapshotFiles(tmp_path)
    files.save(*published(MODEL))
    shard = next(tmp_path.glob("shard-*"))
    match harm:
        case "missing shard":
            shard.unlink()
        case "wrong shard":
            shard.write_bytes(b'{"entries":[]}')
        case "half pointer":
            (tmp_path / "pointer.json").write_bytes(b'{"schema":1,')
        case "nothing":
            files = SnapshotFiles(tmp_path / "elsewhere")

    assert files.load() is None


@pytest.mark.parametrize("moment", ["at once", "in the pause"])
async def test_the_newest_snapshot_is_on_the_volume_when_the_process_ends(
    tmp_path: Path, moment: str
) -> None:
    files = SnapshotFiles(tmp_path)
    keeper = SnapshotKeeper(files, pause=3600.0)
    running = asyncio.create_task(keeper.run())
    keeper.keep(*published(MODEL))
    if moment == "in the pause":
        while await asyncio.to_thread(files.load) is None:
            pass
    pointer, contents = published(MODEL, TENANT, sequence=2)
    old = published(MODEL)[1]
    keeper.keep(pointer, {d: c for d, c in contents.items() if d not in old})
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (pointer, contents) == files.load()


class FullOnce(SnapshotFiles):
    """A volume that has no room for the first snapshot."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refused = threading.Event()

    def save(self, pointer: Pointer, contents: Mapping[str, bytes]) -> None:
        if not self.refused.is_set():
            self.refused.set()
            raise OSError("no space left on the device")
        super().save(pointer, contents)


async def test_what_a_full_volume_refused_is_written_with_the_next_snapshot(
    tmp_path: Path,
) -> None:
    files = FullOnce(tmp_path)
    keeper = SnapshotKeeper(files, pause=0.0)
    running = asyncio.create_task(keeper.run())
    keeper.keep(*published(MODEL))
    await asyncio.to_thread(files.refused.wait)
    pointer, contents = published(MODEL, sequence=2)
    keeper.keep(pointer, {})
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (pointer, contents) == files.load()


# Tables


NAMES = st.sampled_from(["a", "b", "c"])
MODELS = st.dictionaries(NAMES, NAMES)  # object to public name; the operator lets each win once


def _entries(models: dict[str, str], routes: dict[str, str]) -> list[Entry]:
    made: dict[str, Entry] = {}
    for name, public in models.items():
        made.setdefault(f"model {public}", _entry("ModelDeployment", name, _model(public)))
    for name, public in routes.items():
        body = RouteBody(
            models=(public,), routes=(RouteRule(name="all", targets=(Target(model="a"),)),)
        )
        made.setdefault(f"route {public}", _entry("RoutingPolicy", name, body))
    return list(made.values())


def _model(public: str) -> ModelBody:
    return ModelBody(public_name=public)


def _entry(kind: Any, name: str, body: Any) -> Entry:
    identity = Identity(kind=kind, namespace="n", name=name)
    return make_entry(identity, uid=name, generation=1, body=body)


@given(st.lists(st.tuples(MODELS, MODELS), min_size=1, max_size=5))
def test_tables_made_step_by_step_are_those_made_at_once(
    versions: list[tuple[dict[str, str], dict[str, str]]],
) -> None:
    tables, held = Tables(), set[Identity]()
    for models, routes in versions:
        entries = _entries(models, routes)
        draft = tables.edit()
        for each in entries:
            draft.put(each)
        present = {each.identity for each in entries}
        for identity in held - present:
            draft.drop(identity)
        tables, held = draft.done(), present
    fresh = Tables().edit()
    for each in entries:
        fresh.put(each)

    assert _seen(fresh.done()) == _seen(tables)


def _seen(tables: Tables) -> Any:
    space = tables.space("n")
    return (
        {name: found.identity for name, found in space.models.items()},
        {name: found.identity for name, found in space.objects.items()},
        {name: found.identity for name, found in space.routes.items()},
        sorted(space.names()),
    )


@given(st.lists(st.dictionaries(st.integers(0, 600), st.one_of(st.none(), st.integers()))))
def test_a_shared_map_is_a_dict_whose_old_versions_stay(
    edits: list[dict[int, int | None]],
) -> None:
    model: dict[int, int] = {}
    shared = SharedMap[int, int]()
    versions = [(dict(model), shared)]
    for edit in edits:
        draft = shared.edit()
        for key, value in edit.items():
            if value is None:
                draft.drop(key)
                model.pop(key, None)
            else:
                draft[key] = value
                model[key] = value
        shared = draft.done()
        versions.append((dict(model), shared))

    for expected, version in versions:
        assert expected == {
            key: version.get(key) for key in range(601) if version.get(key) is not None
        }


def test_gates_are_found_anew_in_each_version_of_the_tables() -> None:
    draft = Tables().edit()
    draft.put(entry("SafetyPolicy", "first", SafetyBody(rules=())))
    before = draft.done()
    assert ["first"] == gates(before.space("chat"))

    draft = before.edit()
    draft.put(entry("SafetyPolicy", "second", SafetyBody(rules=())))
    draft.put(entry("SafetyPolicy", "others", SafetyBody(rules=(), tenants=("b*",))))
    after = draft.done()

    assert (["first"], ["first", "second"]) == (
        gates(before.space("chat")),
        gates(after.space("chat")),
    )


def test_what_is_remembered_of_gates_is_bounded() -> None:
    space = Space()
    for number in range(MOST_BOUND + 10):
        space.bound(f"tenant-{number}", NAME)
    assert 10 == len(space._bound)


def gates(space: Space) -> list[str]:
    return sorted(gate.identity.name for gate in space.bound("acme", NAME).gates)
