"""How far the pods are from what is wanted, and what is done next."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from headgate_api.modeldeployment import ModelDeployment
from headgate_controllers.modeldeployment.observed import Deployed, Observed, Pod
from headgate_controllers.modeldeployment.pods import Cohort, cohort, default_image
from headgate_controllers.modeldeployment.surge import Running, Sizes, surge, wanted


@dataclass(frozen=True, slots=True)
class Rollout:
    """The state of affairs, counted once for the plan and for the status."""

    cohorts: Mapping[str, Cohort]
    """The new one of each variant, best variant first. None where nothing shall run."""
    wanted: Mapping[str, int]
    answering: Mapping[str, int]
    """By variant: pods of its new cohort that answer."""
    pods: tuple[Pod, ...]
    """Pods of new cohorts that stay."""
    olds: tuple[Deployed, ...]
    """Deployments of other cohorts."""
    occupied: frozenset[str]
    """Names of cohorts that have pods, be they on their way out."""
    sizes: Sizes
    answering_anywhere: int
    placed: bool
    """Whether this region shall run any of it."""

    @property
    def asked(self) -> int:
        return sum(self.wanted.values())

    @property
    def answered(self) -> int:
        return sum(min(self.answering[name], count) for name, count in self.wanted.items())

    @property
    def changing(self) -> bool:
        """Whether other pods still stand in for wanted ones."""
        return self.sizes.changing

    @property
    def complete(self) -> bool:
        return self.answered == self.asked

    @property
    def drained(self) -> tuple[Deployed, ...]:
        """Old Deployments that have no pod and get none."""
        return tuple(old for old in self.olds if not (old.replicas or old.name in self.occupied))

    def lacking(self) -> tuple[str, ...]:
        """Variants that have fewer pods that answer than are wanted."""
        return tuple(name for name, count in self.wanted.items() if self.answering[name] < count)


def rollout(seen: Observed, mdep: ModelDeployment, *, placed: bool) -> Rollout:
    """Count what there is, and decide how many replicas each cohort gets."""
    variants = mdep.spec.variants if placed else ()
    image = default_image(mdep, seen.env)
    cohorts = {v.name: cohort(mdep, v, image) for v in variants}
    names = {made.name: variant for variant, made in cohorts.items()}
    counts = wanted(mdep.spec) if placed else {}
    answers = Counter(pod.cohort for pod in seen.pods if seen.answers(pod))
    running = {
        d.name: Running(d.name, d.variant, d.replicas, answers[d.name]) for d in seen.deployments
    }
    olds = tuple(deployed for deployed in seen.deployments if deployed.name not in names)
    new_pods = tuple(p for p in seen.pods if p.cohort in names and not p.deleting)
    sizes = surge(
        counts,
        {variant: running[name] for name, variant in names.items() if name in running},
        [running[old.name] for old in olds],
        stuck=any(pod.lacks_gpu for pod in new_pods),
    )
    return Rollout(
        cohorts,
        counts,
        {variant: answers[name] for name, variant in names.items()},
        new_pods,
        olds,
        frozenset(pod.cohort for pod in seen.pods),
        sizes,
        answering_anywhere=answers.total(),
        placed=placed,
    )


def stuck_in(seen: Observed, mdep: ModelDeployment, going: Rollout, now: datetime) -> timedelta:
    """Tell how long things may still stand still before the progress deadline is over.

    Something moves when a Deployment or a pod is made, and when a pod becomes ready.
    """
    names = {made.name for made in going.cohorts.values()}
    moves = [d.created for d in seen.deployments if d.name in names]
    moves += [pod.created for pod in going.pods]
    moves += [pod.ready_since for pod in going.pods if pod.ready_since is not None]
    deadline = timedelta(seconds=mdep.spec.rollout.progress_deadline)
    return max(moves, default=now) + deadline - now
