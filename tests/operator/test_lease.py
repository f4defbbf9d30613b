"""Leader election by a clock that the test moves. Two real electors: test_process.py."""

from dataclasses import dataclass

import pytest

from headgate_api.errors import Unavailable
from headgate_kube.resources import LEASES
from headgate_operator.lease import Elector, LeaseLost
from headgate_operator.owner import owners

from .fake_api import FakeApi

AWAY = Unavailable("the API server is away")


class Ended(Exception):
    """The time that a test looks at is over."""


@dataclass
class Clock:
    """Time that passes only while somebody sleeps."""

    now: float = 100.0
    ends: float = float("inf")

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.ends:
            raise Ended


def elector(api: FakeApi, clock: Clock, identity: str) -> Elector:
    return Elector(api, "headgate", "lease", identity, clock=clock, sleep=clock.sleep)


async def one() -> int:
    return 1


async def seven() -> int:
    return 7


async def test_the_first_candidate_leads_with_an_epoch_above_the_one_in_force() -> None:
    candidate = elector(FakeApi(), Clock(), "a")
    await candidate.acquire(seven)
    assert (True, 7) == (candidate.leads, candidate.epoch)


async def test_a_leader_that_is_not_heard_of_is_replaced_after_its_lease() -> None:
    api, clock = FakeApi(), Clock()
    a, b = elector(api, clock, "a"), elector(api, clock, "b")
    await a.acquire(one)
    started = clock.now

    await b.acquire(one)

    assert started + 15.0 <= clock.now
    assert (False, True) == (a.leads, b.leads)
    assert (1, 2) == (a.epoch, b.epoch)


async def test_a_leader_stops_before_another_may_start() -> None:
    api, clock = FakeApi(), Clock()
    a = elector(api, clock, "a")
    await a.acquire(one)
    started = clock.now
    api.failures["replace Lease"] = api.failures["get Lease"] = [AWAY] * 100

    with pytest.raises(LeaseLost):
        await a.hold()

    assert started + a.deadline <= clock.now < started + a.duration


async def test_a_leader_goes_on_after_failures_that_end_in_time() -> None:
    api, clock = FakeApi(), Clock()
    a = elector(api, clock, "a")
    await a.acquire(one)
    api.failures["replace Lease"] = api.failures["get Lease"] = [AWAY] * 3
    clock.ends = clock.now + 60.0

    with pytest.raises(Ended):
        await a.hold()

    assert a.leads


async def test_a_leader_renews_without_reading_what_it_wrote_itself() -> None:
    api, clock = FakeApi(), Clock()
    a = elector(api, clock, "a")
    await a.acquire(one)
    api.failures["get Lease"] = [AWAY]
    clock.ends = clock.now + 60.0

    with pytest.raises(Ended):
        await a.hold()

    assert (True, [AWAY]) == (a.leads, api.failures["get Lease"])


async def test_a_leader_goes_on_over_an_edit_of_its_lease() -> None:
    api, clock = FakeApi(), Clock()
    a = elector(api, clock, "a")
    await a.acquire(one)
    lease = await api.get(LEASES, "headgate", "lease")
    api.put({**lease, "metadata": lease["metadata"] | {"annotations": {"by": "hand"}}})
    clock.ends = clock.now + 60.0

    with pytest.raises(Ended):
        await a.hold()

    assert a.leads
    found = await api.get(LEASES, "headgate", "lease")
    assert {"by": "hand"} == found["metadata"]["annotations"]


async def test_a_released_lease_is_free_at_once() -> None:
    api, clock = FakeApi(), Clock()
    a, b = elector(api, clock, "a"), elector(api, clock, "b")
    await a.acquire(one)
    await a.release()
    before = clock.now

    await b.acquire(one)

    assert before == clock.now
    assert (False, 2) == (a.leads, b.epoch)


async def test_a_restarted_container_takes_its_own_lease_with_a_new_epoch() -> None:
    api, clock = FakeApi(), Clock()
    await elector(api, clock, "pod-0").acquire(one)
    before = clock.now
    again = elector(api, clock, "pod-0")

    await again.acquire(one)

    assert (before, 2) == (clock.now, again.epoch)


async def test_a_lease_from_a_backup_gives_no_epoch_below_the_one_in_force() -> None:
    api, clock = FakeApi(), Clock()
    lease = {
        "kind": "Lease",
        "metadata": {"name": "lease", "namespace": "headgate"},
        "spec": {"holderIdentity": "", "leaseTransitions": 2},
    }
    api.put(lease)
    a = elector(api, clock, "a")

    await a.acquire(seven)

    assert 7 == a.epoch
    spec = (await api.get(LEASES, "headgate", "lease"))["spec"]
    assert ("a", 7) == (spec["holderIdentity"], spec["leaseTransitions"])


async def test_the_lease_belongs_to_the_release_also_when_an_older_one_is_there() -> None:
    api, clock = FakeApi(), Clock()
    api.put({"kind": "ConfigMap", "metadata": {"name": "owner", "namespace": "headgate"}})
    uid = api.objects["ConfigMap", "headgate", "owner"]["metadata"]["uid"]
    first, second = elector(api, clock, "a"), elector(api, clock, "b")
    await first.acquire(one)
    await first.release()
    second.owners = await owners(api, "headgate", "owner")

    await second.acquire(one)

    wanted = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]
    lease = await api.get(LEASES, "headgate", "lease")
    assert wanted == lease["metadata"]["ownerReferences"]


async def test_a_leader_whose_lease_was_deleted_makes_no_new_one() -> None:
    api, clock = FakeApi(), Clock()
    a = elector(api, clock, "a")
    await a.acquire(one)
    api.objects.clear()

    with pytest.raises(LeaseLost):
        await a.hold()

    assert {} == api.objects
