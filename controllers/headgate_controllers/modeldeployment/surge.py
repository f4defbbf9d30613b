"""How many pods each cohort has: the pool spread over variants, and one surging pod in a change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from headgate_api.modeldeployment import ModelDeploymentSpec


def wanted(spec: ModelDeploymentSpec) -> dict[str, int]:
    """Tell how many replicas each variant shall have: its own number, or its part of the pool."""
    if spec.suspend:
        return {variant.name: 0 for variant in spec.variants}
    elastic = [variant for variant in spec.variants if variant.replicas is None]
    bounds = [(v.min_replicas or 0, v.max_replicas) for v in elastic]
    parts = dict(zip((v.name for v in elastic), spread(spec.replicas, bounds), strict=True))
    return {v.name: parts[v.name] if v.replicas is None else v.replicas for v in spec.variants}


def spread(total: int, bounds: Sequence[tuple[int, int | None]]) -> list[int]:
    """Spread `total` replicas over variants in order of rank.

    Each gets its minimum as long as there is something left; what is then left goes to the best
    variants up to their maxima.

    Args:
        total: replicas to spread.
        bounds: least and most of each variant, best first; None is no maximum.

    >>> spread(5, [(0, 2), (1, None)]), spread(1, [(1, None), (1, None)])
    ([2, 3], [1, 0])
    """
    parts = []
    for least, _ in bounds:
        parts.append(min(least, total))
        total -= parts[-1]
    for i, (_, most) in enumerate(bounds):
        more = total if most is None else max(0, min(total, most - parts[i]))
        parts[i] += more
        total -= more
    return parts


@dataclass(frozen=True, slots=True)
class Running:
    """A cohort as it is."""

    name: str
    variant: str
    replicas: int
    """How many its Deployment is asked for."""
    answering: int


class Sizes(NamedTuple):
    """How many replicas each cohort gets."""

    new: dict[str, int]
    """By variant."""
    old: dict[str, int]
    """By cohort."""
    changing: bool
    """Whether pods still stand in for others that do not answer yet."""


def surge(
    wanted: Mapping[str, int],
    news: Mapping[str, Running],
    olds: Sequence[Running],
    *,
    stuck: bool = False,
) -> Sizes:
    """Hand the work over from old cohorts to new ones.

    A pod that is no longer wanted stays until a wanted one answers in its place, and one pod more
    than wanted may run: for N wanted replicas there are never more than N + 1, and never fewer
    answering ones than before, up to N. Where nothing stands in, all start at once.

    Args:
        wanted: replicas of each variant, best first.
        news: the cohorts of the wanted revisions, by variant, as far as there are.
        olds: the other cohorts.
        stuck: a new pod finds no GPU. Old pods that do not answer make room then: a broken
            revision that holds every GPU could else never be replaced.
    """
    if stuck:
        olds = [replace(old, replicas=min(old.replicas, old.answering)) for old in olds]
    answering = {name: news[name].answering if name in news else 0 for name in wanted}
    missing = {name: count - answering[name] for name, count in wanted.items()}
    # Pods of a variant that has lost a part of the pool: those that answer can stand in.
    surplus = [
        Running(new.name, name, more, more)
        for name, new in news.items()
        if (more := min(new.replicas, new.answering) - wanted[name]) > 0
    ]
    keep = dict.fromkeys((cohort.name for cohort in (*olds, *surplus)), 0)
    stands_in = dict.fromkeys(wanted, 0)

    def stand_in(name: str, cohort: Running, most: int) -> None:
        count = max(0, min(most - keep[cohort.name], missing[name] - stands_in[name]))
        keep[cohort.name] += count
        stands_in[name] += count

    # What answers goes first; then a variant's own pods before those of other variants.
    own = [(name, old) for name in wanted for old in _best(olds) if old.variant == name]
    every = [(name, cohort) for name in wanted for cohort in _best([*olds, *surplus])]
    for name, cohort in (*own, *every):
        stand_in(name, cohort, min(cohort.answering, cohort.replicas))
    for name, cohort in (*own, *every):
        stand_in(name, cohort, cohort.replicas)
    sizes = {name: count - stands_in[name] for name, count in wanted.items()}
    surging = next((name for name, count in stands_in.items() if count), None)
    if surging is not None:
        sizes[surging] += 1
    for new in surplus:
        sizes[new.variant] += keep.pop(new.name)
    return Sizes(sizes, keep, changing=surging is not None)


def _best(cohorts: Sequence[Running]) -> list[Running]:
    return sorted(cohorts, key=lambda cohort: (-cohort.answering, cohort.name))
