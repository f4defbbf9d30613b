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
class Old:
    """A cohort of an earlier revision, or of a variant that is no longer wanted."""

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


def surge(
    wanted: Mapping[str, int],
    answering: Mapping[str, int],
    olds: Sequence[Old],
    *,
    stuck: bool = False,
) -> Sizes:
    """Hand the work over from old cohorts to new ones.

    An old pod stays until a new one answers in its place, and one pod more than wanted may run:
    for N wanted replicas there are never more than N + 1, and never fewer answering ones than
    before, up to N. Without old cohorts all start at once.

    Args:
        wanted: replicas of each variant, best first.
        answering: pods of each variant's new cohort that answer.
        olds: the other cohorts.
        stuck: a new pod finds no GPU. Old pods that do not answer make room then: a broken
            revision that holds every GPU could else never be replaced.
    """
    if stuck:
        olds = [replace(old, replicas=min(old.replicas, old.answering)) for old in olds]
    missing = {name: max(0, count - answering.get(name, 0)) for name, count in wanted.items()}
    keep = dict.fromkeys((old.name for old in olds), 0)
    stands_in = dict.fromkeys(wanted, 0)

    def stand_in(name: str, old: Old, limit: int) -> None:
        count = min(limit - keep[old.name], missing[name] - stands_in[name])
        if count > 0:
            keep[old.name] += count
            stands_in[name] += count

    # What answers goes first, and a variant's own pods before those of variants that are gone.
    best = sorted(olds, key=lambda old: (-old.answering, old.name))
    for name in wanted:
        for limit_by_answers in (True, False):
            for old in best:
                if old.variant == name:
                    limit = min(old.answering, old.replicas) if limit_by_answers else old.replicas
                    stand_in(name, old, limit)
    for name in wanted:
        for old in best:
            if old.variant not in wanted:
                stand_in(name, old, old.replicas)
    new = {name: count - stands_in[name] for name, count in wanted.items()}
    surging = next((name for name, count in stands_in.items() if count), None)
    if surging is not None:
        new[surging] += 1
    return Sizes(new, keep)
