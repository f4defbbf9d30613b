"""The contract of `Store`, asked of both; then what is each one's own."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headgate_api.errors import Unavailable
from headgate_cluster.processes import Server
from headgate_gateway.idempotency.sqlite import SqliteStore
from headgate_gateway.idempotency.store import (
    CLAIMED,
    KEEP,
    LEASE,
    NOT_KEPT,
    OTHER_BODY,
    Claim,
    Found,
    InWork,
    Kept,
    decode,
)
from headgate_gateway.idempotency.valkey import ValkeyStore

from .idempotency_grounds import Ground, OnSqlite, OnValkey
from .valkey import valkey

OWNERS = count()
KEPT = Kept(((b"content-type", b"application/json"),), False, b'{"text": "\xe4\xbd\xa0"}')


def claim(key: str = "order-7", body: str = "Hello") -> Claim:
    return Claim(key.encode() * 4, body.encode() * 6, f"request-{next(OWNERS)}")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Server]]:
    with valkey() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("valkey", marks=pytest.mark.valkey)])
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    ground: Ground
    if request.param == "sqlite":
        ground = OnSqlite(tmp_path)
    else:
        ground = OnValkey(request.getfixturevalue("server")[0])
    yield ground
    await ground.close()


async def test_who_comes_first_gets_the_key_and_others_how_long_it_is_in_work(
    ground: Ground,
) -> None:
    assert CLAIMED == await ground.store.claim(claim())
    found = await ground.store.claim(claim())

    assert isinstance(found, InWork)
    assert 0 <= found.age < LEASE


async def test_of_a_hundred_at_once_one_gets_the_key(ground: Ground) -> None:
    found = await asyncio.gather(*(ground.store.claim(claim()) for _ in range(100)))

    assert 1 == found.count(CLAIMED)
    assert 99 == sum(isinstance(one, InWork) for one in found)


async def test_another_body_is_told_so_while_the_first_is_in_work_and_after(
    ground: Ground,
) -> None:
    first = claim()
    await ground.store.claim(first)
    assert OTHER_BODY == await ground.store.claim(claim(body="Bye"))
    ground.store.finish(first, KEPT)

    assert OTHER_BODY == await ground.store.claim(claim(body="Bye"))


@pytest.mark.parametrize("outcome", [KEPT, NOT_KEPT, Kept((), True, b"\x00" * 100_000)])
async def test_an_outcome_is_found_by_who_asks_next_and_by_the_next_gateway(
    ground: Ground, outcome: Kept
) -> None:
    first = claim()
    await ground.store.claim(first)
    ground.store.finish(first, outcome)

    assert outcome == await ground.store.claim(claim())
    await ground.restart()
    assert outcome == await ground.store.claim(claim())


async def test_an_outcome_is_kept_for_a_day_and_then_the_key_is_free(ground: Ground) -> None:
    first = claim()
    await ground.store.claim(first)
    ground.store.finish(first, KEPT)
    assert KEPT == await ground.store.claim(claim())

    await ground.later(KEEP - 60)
    assert KEPT == await ground.store.claim(claim())
    await ground.later(61)
    assert CLAIMED == await ground.store.claim(claim(body="Bye"))


async def test_a_key_that_was_released_is_free(ground: Ground) -> None:
    first = claim()
    await ground.store.claim(first)
    ground.store.release(first)

    assert CLAIMED == await ground.store.claim(claim(body="Bye"))


async def test_a_claim_lives_as_long_as_it_is_renewed(ground: Ground) -> None:
    renewed, forgotten = claim("renewed"), claim("forgotten")
    assert [CLAIMED] * 2 == [await ground.store.claim(one) for one in (renewed, forgotten)]
    for _ in range(3):
        await ground.later(LEASE / 2)
        ground.store.renew([renewed])
        await ground.store.claim(claim("other"))  # what was asked before is done

    assert isinstance(await ground.store.claim(claim("renewed")), InWork)
    assert CLAIMED == await ground.store.claim(claim("forgotten"))


async def test_a_claim_outlives_its_gateway_by_a_lease(ground: Ground) -> None:
    """A model server may still be at work for it."""
    await ground.store.claim(claim())
    await ground.restart()

    assert isinstance(await ground.store.claim(claim()), InWork)
    await ground.later(LEASE + 1)
    assert CLAIMED == await ground.store.claim(claim())


async def test_who_lost_its_lease_cannot_touch_the_next_one_s_claim(ground: Ground) -> None:
    late, next_one = claim(), claim()
    await ground.store.claim(late)
    await ground.later(LEASE + 1)
    assert CLAIMED == await ground.store.claim(next_one)
    ground.store.renew([late])
    ground.store.release(late)
    ground.store.finish(late, KEPT)

    assert isinstance(await ground.store.claim(claim()), InWork)
    ground.store.finish(next_one, NOT_KEPT)
    assert NOT_KEPT == await ground.store.claim(claim())


async def test_who_lost_its_lease_takes_the_key_again_where_nobody_has_it(ground: Ground) -> None:
    """Its gateway hung for a while, or the server lost its memory."""
    late = claim()
    await ground.store.claim(late)
    await ground.later(LEASE + 1)
    ground.store.renew([late])

    assert isinstance(await ground.store.claim(claim()), InWork)


async def test_who_lost_its_lease_is_still_heard_where_nobody_took_the_key(ground: Ground) -> None:
    late = claim()
    await ground.store.claim(late)
    await ground.later(LEASE + 1)
    ground.store.finish(late, KEPT)

    assert KEPT == await ground.store.claim(claim())


async def test_a_claim_that_is_repeated_by_its_owner_is_still_its_own(ground: Ground) -> None:
    """A connection may break between the server's deed and its reply."""
    first = claim()

    assert [CLAIMED] * 2 == [await ground.store.claim(first) for _ in range(2)]


async def test_who_is_cancelled_while_it_asks_holds_nothing(ground: Ground) -> None:
    async def gone() -> None:
        tasks = [asyncio.create_task(ground.store.claim(claim())) for _ in range(5)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    await gone()
    found: Found | None = None
    while found != CLAIMED:
        found = await ground.store.claim(claim())


async def test_a_closed_store_gives_nothing_away(ground: Ground) -> None:
    first = claim()
    await ground.store.claim(first)
    ground.store.finish(first, KEPT)
    await ground.store.close()

    with pytest.raises(Unavailable):
        await ground.store.claim(claim())
    ground.store.release(first)  # a straggler
    await ground.restart()
    assert KEPT == await ground.store.claim(claim())


def test_what_another_release_wrote_is_known_to_be_answered() -> None:
    assert NOT_KEPT == decode(b'{"a": "later form"}')


# The embedded one


async def test_a_claim_survives_a_kill_that_follows_it_at_once(tmp_path: Path) -> None:
    """And the file is free for the next process as soon as the first is dead."""
    script = f"""
import asyncio, pathlib
from headgate_gateway.idempotency.sqlite import SqliteStore
from headgate_gateway.idempotency.store import Claim
async def main():
    store = SqliteStore(pathlib.Path({str(tmp_path / "keys.db")!r}), most_bytes=2**22)
    for number in range(10_000):
        await store.claim(Claim(b"%d" % number, b"Hello", "owner"))
        print(number, flush=True)
asyncio.run(main())
"""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    while await child.stdout.readline() != b"20\n":
        pass
    os.kill(child.pid, signal.SIGKILL)
    last = int((b"20\n" + await child.stdout.read()).split()[-1])
    await child.wait()
    store = SqliteStore(tmp_path / "keys.db", most_bytes=2**22)
    found = [await store.claim(Claim(b"%d" % n, b"Hello", "next")) for n in range(last + 1)]

    assert [] == [one for one in found if not isinstance(one, InWork)]
    await store.close()


async def test_a_file_has_one_process(tmp_path: Path) -> None:
    ground = OnSqlite(tmp_path)
    await ground.store.claim(claim())
    with capture_logs() as logs:
        second = ground.open()
        with pytest.raises(Unavailable):
            await second.claim(claim())
    assert ["idempotency store failed"] == [line["event"] for line in logs]
    await ground.store.close()

    assert isinstance(await second.claim(claim()), InWork), "it tries again"
    await second.close()


async def test_a_file_of_a_later_release_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=2")
    with capture_logs() as logs:
        store = SqliteStore(path, most_bytes=2**22)
        with pytest.raises(Unavailable):
            await store.claim(claim())
        await store.close()

    assert "its schema is 2, this release knows 1" == logs[0]["error"]
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert [] == db.execute("SELECT name FROM sqlite_master").fetchall()


async def test_a_full_file_still_honours_keys_and_keeps_no_more_answers(tmp_path: Path) -> None:
    ground = OnSqlite(tmp_path)
    large = Kept((), False, b"x" * 500_000)
    found = []
    for number in range(20):
        first = claim(f"key-{number}")
        assert CLAIMED == await ground.store.claim(first)
        ground.store.finish(first, large)
        found.append(await ground.store.claim(claim(f"key-{number}")))

    kept = found.index(NOT_KEPT)
    assert 5 <= kept <= 7
    assert [large] * kept + [NOT_KEPT] * (20 - kept) == found
    await ground.later(KEEP + 1)
    first = claim("tomorrow")
    await ground.store.claim(first)
    ground.store.finish(first, large)
    assert large == await ground.store.claim(claim("tomorrow")), "room was made"
    await ground.close()


async def test_keys_beyond_the_file_s_size_are_refused_and_what_is_over_is_still_noted(
    tmp_path: Path,
) -> None:
    ground = OnSqlite(tmp_path, most_bytes=64 * 1024)
    held: list[Claim] = []
    with capture_logs() as logs, contextlib.suppress(Unavailable):
        for number in count():
            one = claim(f"key-{number}")
            assert CLAIMED == await ground.store.claim(one)
            held.append(one)
    assert "database or disk is full" == logs[0]["error"]
    for one in held[:3]:
        ground.store.finish(one, KEPT)
    asked = [ground.store.claim(Claim(one.key, one.fingerprint, "next")) for one in held[:3]]
    assert [NOT_KEPT] * 3 == await asyncio.gather(*asked)
    await ground.close()


async def test_a_file_s_owner_alone_may_read_it(tmp_path: Path) -> None:
    """It holds what models said."""
    ground = OnSqlite(tmp_path)
    await ground.store.claim(claim())

    assert {"0o600"} == {oct(path.stat().st_mode & 0o777) for path in ground.path.parent.iterdir()}
    await ground.close()


async def test_old_keys_make_room_by_and_by_though_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate_gateway.idempotency.sqlite.IDLE", 0.01)
    monkeypatch.setattr("headgate_gateway.idempotency.sqlite.AGAIN", 0.01)
    ground = OnSqlite(tmp_path)
    for number in range(1000):
        first = claim(f"key-{number}")
        await ground.store.claim(first)
        ground.store.finish(first, KEPT)
    assert KEPT == await ground.store.claim(claim("key-999"))  # what was asked before is done
    await ground.later(KEEP + 1)
    full = ground.store.file_bytes
    while ground.store.file_bytes > full / 8:  # noqa: ASYNC110 - nobody would tell us
        await asyncio.sleep(0.01)
    await ground.close()

    with contextlib.closing(sqlite3.connect(ground.path)) as db:
        assert [(0,)] == db.execute("SELECT count(*) FROM keys").fetchall()


# The shared one


@pytest.mark.valkey
async def test_two_gateways_share_keys(server: tuple[str, Server]) -> None:
    one, other = OnValkey(server[0]), ValkeyStore(server[0].replace("redis://", "valkey://"))
    first = claim()
    assert CLAIMED == await one.store.claim(first)
    assert isinstance(await other.claim(claim()), InWork)
    one.store.finish(first, KEPT)
    found: Found = CLAIMED
    while found != KEPT:
        found = await other.claim(claim())
        assert isinstance(found, InWork | Kept)

    await other.close()
    await one.close()


@pytest.mark.valkey
async def test_a_server_that_forgot_the_script_gets_it_again(server: tuple[str, Server]) -> None:
    ground = OnValkey(server[0])
    await ground.store.claim(claim("first"))
    await ground.admin.script_flush()

    assert CLAIMED == await ground.store.claim(claim("second"))
    await ground.close()


@pytest.mark.valkey
async def test_without_the_server_nothing_is_given_and_what_is_over_is_told_later() -> None:
    with valkey() as (url, server):
        ground = OnValkey(url)
        first = claim()
        await ground.store.claim(first)
        server.freeze()
        ground.store.finish(first, KEPT)
        with capture_logs() as logs, pytest.raises(Unavailable):
            await ground.store.claim(claim("other"))
        assert "idempotency store failed" == logs[0]["event"]
        server.thaw()

        found: Found | None = None
        while found != KEPT:
            with contextlib.suppress(Unavailable):
                found = await ground.store.claim(claim())
                assert isinstance(found, InWork | Kept), "never free"
        await ground.close()


@pytest.mark.valkey
async def test_a_server_that_has_no_memory_left_gives_nothing_and_says_so() -> None:
    with valkey() as (url, _):
        ground = OnValkey(url)
        await ground.admin.config_set("maxmemory", "1")
        with capture_logs() as logs, pytest.raises(Unavailable):
            await ground.store.claim(claim())
        assert "maxmemory" in logs[0]["error"]
        await ground.admin.config_set("maxmemory", "0")

        assert CLAIMED == await ground.store.claim(claim())
        await ground.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    store = ValkeyStore("redis://127.0.0.1:1")
    with capture_logs(), pytest.raises(Unavailable):
        await store.claim(claim())
    await store.close()
