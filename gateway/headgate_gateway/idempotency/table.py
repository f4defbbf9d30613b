"""Keys in an SQLite file: what one batch does to them, in one transaction and few statements.

Few, because each statement lets go of the interpreter's lock, and getting it back from a busy event
loop takes longer than the statement.

The file belongs to one process at a time. WAL with `synchronous=FULL`: what is committed survives a
power loss.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headgate_api.errors import TerminalError
from headgate_gateway.idempotency.store import (
    CLAIMED,
    KEEP,
    LEASE,
    NOT_KEPT,
    OTHER_BODY,
    Claim,
    Found,
    InWork,
    Outcome,
    decode,
    encode,
)

VERSION: Final = 1
"""Of the schema. A file of a later release is not touched."""
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS keys (
  key BLOB PRIMARY KEY,
  fingerprint BLOB NOT NULL,
  owner TEXT NOT NULL,
  since REAL NOT NULL,  -- s since 1970
  until REAL NOT NULL,  -- s since 1970: end of the lease, or of what is kept
  answer BLOB           -- NULL while in work; empty where it is not kept
)
"""
PRAGMAS: Final = (
    "locking_mode=EXCLUSIVE",
    "journal_mode=WAL",
    "synchronous=FULL",
    "journal_size_limit=16777216",
    "cache_size=-256",  # KiB; 1024 were not faster among 200,000 keys: the system has the rest
    "temp_store=MEMORY",
)
STATEMENTS: Final = 8
"""That stay prepared. Each count of rows has its own, of 100 bytes and more for each row; of 32 of
them 0.9 MiB stayed, of 512 5 MiB, and to prepare one takes no time that could be measured."""
INSERT: Final = "INSERT INTO keys (key, fingerprint, owner, since, until, answer) VALUES "
UNLESS_TAKEN: Final = """ ON CONFLICT (key) DO UPDATE SET
fingerprint = excluded.fingerprint, owner = excluded.owner, until = excluded.until,
answer = excluded.answer
WHERE (keys.owner = excluded.owner AND keys.answer IS NULL) OR keys.until <= excluded.since"""
RELEASE: Final = "DELETE FROM keys WHERE answer IS NULL AND key IN ({0}) AND owner IN ({0})"
PURGE: Final = """DELETE FROM keys WHERE until <= ? AND rowid IN
(SELECT rowid FROM keys ORDER BY rowid LIMIT ?)"""
PURGED: Final = 256
"""The oldest rows, which are looked at once in a while."""
PURGE_SECONDS: Final = 1.0
MOST: Final = 5000  # rows in one statement
ROW: Final = 256
"""Bytes that a key takes, about, with its place in the index."""
KEPT_SHARE: Final = 0.8
"""Of the file's size: beyond it, answers are kept no more, so that there is room for keys."""


@dataclass(slots=True)
class Batch:
    """What is asked at once, in the order in which it is done.

    Nobody renews what has ended, so renewals come first: else one would take the key of a request
    that ended right after it. Claims come last: no key may look held that was let go.
    """

    renewed: list[Claim] = field(default_factory=list)
    finished: list[tuple[Claim, Outcome]] = field(default_factory=list)
    released: list[Claim] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)


class Table:
    """Opens the file.

    Args:
        path: the file; its folder is made.
        most_bytes: size of the file.
        clock: s since 1970.

    Raises:
        OSError, sqlite3.Error: the file cannot be used, or not now.
        TerminalError: it was written by a later release.
    """

    def __init__(self, path: Path, most_bytes: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._purge_at = 0.0
        self.behind = False
        """There may be more that is over: ask again soon."""
        self.used = 0
        """Bytes of the file in use, as of the last purge, and what was added since."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            path, isolation_level=None, timeout=0.0, cached_statements=STATEMENTS
        )
        try:
            path.chmod(0o600)  # it holds what models said
            self._prepare(most_bytes)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, most_bytes: int) -> None:
        for pragma in PRAGMAS:
            self._db.execute(f"PRAGMA {pragma}")
        self._page = self._number("page_size")
        self._db.execute(f"PRAGMA max_page_count={most_bytes // self._page}")
        self._most_kept = int(most_bytes * KEPT_SHARE)
        if (version := self._number("user_version")) > VERSION:
            raise TerminalError(f"its schema is {version}, this release knows {VERSION}")
        self._db.execute(SCHEMA)
        self._db.execute(f"PRAGMA user_version={VERSION}")

    def close(self) -> None:
        self._db.close()

    def run(self, batch: Batch) -> list[Found]:
        """Do everything in `batch`, durably, or nothing. Answers its claims, in order."""
        now = self._clock()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if batch.renewed:
                self._renew(batch.renewed, now)
            if batch.finished:
                self._finish(batch.finished, now)
            if batch.released:
                self._release(batch.released)
            found = self._claim(batch.claims, now) if batch.claims else []
            if now >= self._purge_at or self._purge_at > now + PURGE_SECONDS:
                self._purge(now)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return found

    def _claim(self, claims: Sequence[Claim], now: float) -> list[Found]:
        if self._insert(claims, now) == len(claims):
            return [CLAIMED] * len(claims)
        return [self._find(claim, now) for claim in claims]

    def _insert(self, claims: Sequence[Claim], now: float) -> int:
        places = ", ".join(["(?, ?, ?, ?, ?, NULL)"] * len(claims))
        values = [
            value
            for claim in claims
            for value in (claim.key, claim.fingerprint, claim.owner, now, now + LEASE)
        ]
        self.used += ROW * len(claims)
        return self._db.execute(f"{INSERT}{places} ON CONFLICT DO NOTHING", values).rowcount

    def _find(self, claim: Claim, now: float) -> Found:
        fingerprint, owner, since, until, answer = self._db.execute(
            "SELECT fingerprint, owner, since, until, answer FROM keys WHERE key = ?", (claim.key,)
        ).fetchone()
        if owner == claim.owner:
            return CLAIMED
        if until <= now:
            # Not updated in place: rows stay in the order of their time, for the purge.
            self._db.execute("DELETE FROM keys WHERE key = ?", (claim.key,))
            self._insert((claim,), now)
            return CLAIMED
        if fingerprint != claim.fingerprint:
            return OTHER_BODY
        return InWork(now - since) if answer is None else decode(answer)

    def _finish(self, finished: Sequence[tuple[Claim, Outcome]], now: float) -> None:
        values: list[object] = []
        for claim, outcome in finished:
            data = encode(outcome)
            if self.used + len(data) > self._most_kept:
                data = encode(NOT_KEPT)
            self.used += len(data)
            values += (claim.key, claim.fingerprint, claim.owner, now, now + KEEP, data)
        self._put(values)

    def _release(self, released: Sequence[Claim]) -> None:
        # An owner has one key, so the two lists need not be matched.
        marks = ", ".join("?" * len(released))
        keys, owners = [claim.key for claim in released], [claim.owner for claim in released]
        self._db.execute(RELEASE.format(marks), (*keys, *owners))

    def _renew(self, renewed: Sequence[Claim], now: float) -> None:
        for start in range(0, len(renewed), MOST):
            values: list[object] = []
            for claim in renewed[start : start + MOST]:
                values += (claim.key, claim.fingerprint, claim.owner, now, now + LEASE, None)
            self._put(values)

    def _put(self, values: Sequence[object]) -> None:
        """Write rows for keys that are held by their owner, or by nobody."""
        places = ", ".join(["(?, ?, ?, ?, ?, ?)"] * (len(values) // 6))
        self._db.execute(f"{INSERT}{places}{UNLESS_TAKEN}", values)

    def _purge(self, now: float) -> None:
        """Forget what is over. As rows lie in the order of their time, no index is needed."""
        gone = self._db.execute(PURGE, (now, PURGED)).rowcount
        self.behind = gone == PURGED
        self._purge_at = now if self.behind else now + PURGE_SECONDS
        pages = self._number("page_count") - self._number("freelist_count")
        self.used = pages * self._page

    def _number(self, pragma: str) -> int:
        number: int = self._db.execute(f"PRAGMA {pragma}").fetchone()[0]
        return number
