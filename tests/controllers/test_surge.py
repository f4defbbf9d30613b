from dataclasses import dataclass, field

from hypothesis import given, strategies as st

from headgate_api.modeldeployment import ModelDeploymentSpec
from headgate_controllers.modeldeployment.surge import Running, spread, surge, wanted

from .models import spec, variant

BOUNDS = st.lists(
    st.tuples(st.integers(0, 5), st.none() | st.integers(1, 9)).map(
        lambda b: (min(b[0], b[1]) if b[1] is not None else b[0], b[1])
    ),
    min_size=1,
    max_size=5,
)


class TestSpread:
    @given(total=st.integers(0, 40), bounds=BOUNDS)
    def test_nothing_is_lost_and_nothing_is_invented(
        self, total: int, bounds: list[tuple[int, int | None]]
    ) -> None:
        parts = spread(total, bounds)
        room = sum(total if most is None else most for _, most in bounds)
        assert min(total, room) == sum(parts)
        assert all(
            most is None or part <= most for part, (_, most) in zip(parts, bounds, strict=True)
        )

    @given(total=st.integers(0, 40), bounds=BOUNDS)
    def test_minima_are_kept_as_far_as_there_is_something(
        self, total: int, bounds: list[tuple[int, int | None]]
    ) -> None:
        parts = spread(total, bounds)
        if total >= sum(least for least, _ in bounds):
            assert all(part >= least for part, (least, _) in zip(parts, bounds, strict=True))

    def test_the_best_variant_gets_what_is_left(self) -> None:
        assert [4, 1] == spread(5, [(0, None), (1, None)])


@dataclass
class Fleet:
    """Deployments and their pods, which get ready, fail and come back as they like."""

    wanted: dict[str, int]
    asked: dict[str, int]
    """By cohort: spec.replicas."""
    ready: dict[str, int] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)

    def step(self, *, stuck: bool = False) -> bool:
        """One pass and what Deployments do then: unready pods go first. Tells whether it moved."""
        olds = [self.running(name, variant) for name, variant in self.variants.items()]
        news = {name: self.running(f"new-{name}", name) for name in self.wanted}
        sizes = surge(self.wanted, news, olds, stuck=stuck)
        after = sizes.old | {f"new-{name}": count for name, count in sizes.new.items()}
        moved = after != self.asked
        self.asked = after
        self.ready = {name: min(self.ready.get(name, 0), count) for name, count in after.items()}
        return moved

    def running(self, name: str, variant: str) -> Running:
        return Running(name, variant, self.asked[name], self.ready.get(name, 0))

    @property
    def all_ready(self) -> int:
        return sum(self.ready.values())


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    names = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    wanted = {name: draw(st.integers(0, 4)) for name in names}
    gone = draw(st.lists(st.sampled_from("xy"), max_size=1))
    # Before the change there were as many pods as are wanted now, spread in any way.
    cohorts = {f"old-{number}": variant for number, variant in enumerate([*names, *gone])}
    slots = st.sampled_from(sorted([*cohorts, *(f"new-{name}" for name in names)]))
    asked = dict.fromkeys([*cohorts, *(f"new-{name}" for name in names)], 0)
    for _ in range(sum(wanted.values())):
        asked[draw(slots)] += 1
    ready = {name: draw(st.integers(0, count)) for name, count in asked.items()}
    return Fleet(wanted, asked, ready, cohorts)


class TestSurge:
    @given(fleet=fleets(), data=st.data())
    def test_there_is_one_pod_too_many_at_most_and_never_one_too_few(
        self, fleet: Fleet, data: st.DataObject
    ) -> None:
        """For every order in which pods get ready."""
        total = sum(fleet.wanted.values())
        for _ in range(40):
            before = fleet.all_ready
            fleet.step()
            assert sum(fleet.asked.values()) <= total + 1
            assert fleet.all_ready >= min(before, total)
            starting = [n for n, count in fleet.asked.items() if fleet.ready.get(n, 0) < count]
            if starting and data.draw(st.booleans()):
                name = data.draw(st.sampled_from(sorted(starting)))
                fleet.ready[name] = fleet.ready.get(name, 0) + 1

    @given(fleet=fleets(), data=st.data())
    def test_pods_that_fail_and_come_back_break_nothing(
        self, fleet: Fleet, data: st.DataObject
    ) -> None:
        total = sum(fleet.wanted.values())
        for _ in range(30):
            fleet.step(stuck=data.draw(st.booleans()))
            assert sum(fleet.asked.values()) <= total + 1
            name = data.draw(st.sampled_from(sorted(fleet.asked)))
            fleet.ready[name] = data.draw(st.integers(0, fleet.asked[name]))

    @given(fleet=fleets())
    def test_a_change_comes_to_its_end(self, fleet: Fleet) -> None:
        for _ in range(60):
            fleet.step()
            for name in fleet.wanted:
                fleet.ready[f"new-{name}"] = fleet.asked[f"new-{name}"]
        assert (
            dict.fromkeys(fleet.variants, 0)
            | {f"new-{name}": count for name, count in fleet.wanted.items()}
            == fleet.asked
        )
        assert not fleet.step()

    @given(fleet=fleets())
    def test_a_second_pass_over_the_same_pods_changes_nothing(self, fleet: Fleet) -> None:
        fleet.step()
        assert not fleet.step()

    def test_at_first_all_pods_start_at_once(self) -> None:
        assert {"a": 3, "b": 1} == surge({"a": 3, "b": 1}, {}, []).new

    def test_old_pods_that_do_not_answer_make_room_when_there_is_no_gpu(self) -> None:
        olds = [Running("old", "a", replicas=2, answering=1)]
        assert {"old": 1} == surge({"a": 2}, {}, olds, stuck=True).old
        assert {"old": 2} == surge({"a": 2}, {}, olds, stuck=False).old

    def test_the_cohort_with_the_most_answering_pods_stands_in_first(self) -> None:
        olds = [Running("x", "a", replicas=3, answering=1), Running("y", "a", 3, answering=3)]
        assert {"x": 0, "y": 2} == surge({"a": 2}, {}, olds).old

    def test_a_variants_own_pods_stand_in_before_those_of_others(self) -> None:
        olds = [Running("x", "b", replicas=1, answering=1), Running("y", "a", 1, answering=1)]
        news = {"b": Running("new-b", "b", 1, answering=1)}
        assert {"x": 0, "y": 1} == surge({"a": 1, "b": 1}, news, olds).old

    def test_pods_that_still_answer_on_their_way_out_bring_no_pod_back(self) -> None:
        """Four answer, but their Deployment is asked for two or one already."""
        news = {"b": Running("new-b", "b", replicas=2, answering=4)}
        assert 2 == surge({"a": 3, "b": 0}, news, []).new["b"]
        old = Running("old", "a", replicas=1, answering=4)
        assert {"old": 1} == surge({"a": 3}, {}, [old]).old


class TestWanted:
    def test_variants_share_the_pool_within_their_bounds(self) -> None:
        variants = (
            variant("a", maxReplicas=1),
            variant("b", replicas=4),
            variant("c"),
            variant("d", minReplicas=2),
        )
        read = ModelDeploymentSpec.model_validate(spec(*variants, replicas=6))
        assert {"a": 1, "b": 4, "c": 3, "d": 2} == wanted(read)

    def test_who_is_suspended_wants_nothing(self) -> None:
        read = ModelDeploymentSpec.model_validate(spec(variant(replicas=2), suspend=True))
        assert {"bf16": 0} == wanted(read)
