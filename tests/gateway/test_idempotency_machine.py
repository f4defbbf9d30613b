"""Any order of claims, ends, renewals, crashes and days: both stores do what a dictionary does."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

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
    Outcome,
    Store,
)

from .idempotency_grounds import Ground, OnSqlite, OnValkey
from .valkey import valkey

KEYS = st.sampled_from([b"a" * 32, b"b" * 32, b"c" * 32])
BODIES = st.sampled_from([b"1" * 32, b"2" * 32])
OUTCOMES = st.one_of(st.just(NOT_KEPT), st.builds(Kept, st.just(()), st.booleans(), st.binary()))
PAUSES = st.sampled_from([4.0, LEASE + 1, KEEP + 1])
"""No sum of them comes near a lease or a day, so that a server's own clock decides nothing."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the model knows of a key."""

    claim: Claim
    until: float
    outcome: Outcome | None = None  # None: in work


class Keys(RuleBasedStateMachine):
    """Rules act on a store and on the model; every answer must be the model's."""

    ground_of: ClassVar[Callable[[], Ground]]
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.model: dict[bytes, Known] = {}
        self.claims: list[Claim] = []  # given, and not over for who has them
        self.owners = count()

    @initialize()
    def open(self) -> None:
        self.ground = self.do(self._open())

    async def _open(self) -> Ground:
        return type(self).ground_of()

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def tell(self, what: Callable[[Store], None]) -> None:
        async def told() -> None:
            what(self.ground.store)

        self.do(told())

    def known(self, key: bytes) -> Known | None:
        found = self.model.get(key)
        return found if found is not None and self.now < found.until else None

    def expected(self, claim: Claim) -> Found:
        known = self.known(claim.key)
        if known is None:
            return CLAIMED
        if known.claim.fingerprint != claim.fingerprint:
            return OTHER_BODY
        return InWork(0.0) if known.outcome is None else known.outcome

    @rule(key=KEYS, body=BODIES)
    def claim(self, key: bytes, body: bytes) -> None:
        claim = Claim(key, body, f"request-{next(self.owners)}")
        found = self.do(self.ground.store.claim(claim))
        found = InWork(0.0) if isinstance(found, InWork) else found  # its age is a real one

        assert self.expected(claim) == found
        if found == CLAIMED:
            self.model[key] = Known(claim, self.now + LEASE)
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), outcome=OUTCOMES)
    def finish(self, data: st.DataObject, outcome: Outcome) -> None:
        claim = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        self.tell(lambda store: store.finish(claim, outcome))

        known = self.known(claim.key)
        if known is None or known.claim == claim:
            self.model[claim.key] = Known(claim, self.now + KEEP, outcome)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        claim = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        self.tell(lambda store: store.release(claim))

        if (known := self.known(claim.key)) is not None and known.claim == claim:
            del self.model[claim.key]

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """Renew some; the others' gateways are dead, or hang."""
        claims = [claim for claim in self.claims if data.draw(st.booleans())]
        self.tell(lambda store: store.renew(claims))

        for claim in claims:
            known = self.known(claim.key)
            if known is None or known.claim == claim:
                self.model[claim.key] = Known(claim, self.now + LEASE)

    @rule(seconds=PAUSES)
    def later(self, seconds: float) -> None:
        self.settle()
        self.do(self.ground.later(seconds))
        self.now += seconds

    @rule()
    def restart(self) -> None:
        """The next gateway finds all that the last one was told."""
        self.do(self.ground.restart())

    def settle(self) -> None:
        """Time stands still until what was asked is done: a claim comes after it."""
        self.do(self.ground.store.claim(Claim(b"z" * 32, b"z" * 32, "settle")))

    def teardown(self) -> None:
        if hasattr(self, "ground"):
            self.do(self.ground.close())


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


def test_keys_in_sqlite_do_what_a_dictionary_does(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    def ground() -> Ground:
        return OnSqlite(Path(tempfile.mkdtemp(dir=tmp_path)))

    run(loop, ground, 25)


@pytest.mark.valkey
def test_keys_in_valkey_do_what_a_dictionary_does(loop: asyncio.AbstractEventLoop) -> None:
    with valkey() as (url, _):
        run(loop, lambda: OnValkey(url), 100)


def run(loop: asyncio.AbstractEventLoop, ground: Callable[[], Ground], examples: int) -> None:
    machine = type("Machine", (Keys,), {"ground_of": staticmethod(ground), "loop": loop})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )
