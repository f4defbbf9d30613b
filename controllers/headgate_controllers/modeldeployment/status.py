"""ModelDeployment's status: what its conditions say in each state of affairs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from headgate_api.conditions import Mark, Reason
from headgate_api.modeldeployment import ModelDeployment
from headgate_api.variants import Variant
from headgate_controllers.contract import Note
from headgate_controllers.modeldeployment.gpus import class_of, suits, there_are
from headgate_controllers.modeldeployment.observed import Observed
from headgate_controllers.modeldeployment.resources import pinned, public_name, selector
from headgate_controllers.modeldeployment.rollout import Rollout, stuck_in

ACCEPTED: Final = Mark("Accepted", "True", Reason.SPEC_ACCEPTED, "the spec makes sense here")


def refused(marks: Iterable[Mark], refusal: Note, *, accepted: int) -> tuple[Mark, ...]:
    """This generation is wrong; `marks` tell how the one that was `accepted` last does."""
    wrong = {"Accepted", "Ready"}
    return tuple(
        Mark(mark.type, "False", refusal.reason, refusal.sentence)
        if mark.type in wrong
        else replace(mark, message=f"generation {accepted}, accepted last: {mark.message}")
        for mark in marks
    )


def frozen(seen: Observed, refusal: Note) -> tuple[Mark, ...]:
    """This generation is wrong, and what came before it is not known; yet pods may answer."""
    still = sum(map(seen.answers, seen.pods))
    available = Mark("Available", "True", Reason.MINIMUM_REPLICAS_READY, _answer(still))
    if not still:
        available = Mark("Available", "False", refusal.reason, "no replica answers")
    waits = "nothing changes until the spec is accepted"
    return (
        Mark("Accepted", "False", refusal.reason, refusal.sentence),
        available,
        Mark("Progressing", "False", refusal.reason, waits),
        Mark("Ready", "False", refusal.reason, refusal.sentence),
    )


def not_placed(region: str) -> tuple[Mark, ...]:
    sentence = f'spec.placement.regions does not name this region, "{region}": nothing to do here'
    reason = Reason.NOT_PLACED_HERE
    return (
        ACCEPTED,
        Mark("Available", "False", reason, sentence),
        Mark("Progressing", "False", reason, sentence),
        Mark("Ready", "True", reason, sentence),
    )


def marks(
    seen: Observed, mdep: ModelDeployment, going: Rollout, resolved: Mark, now: datetime
) -> tuple[tuple[Mark, ...], float | None]:
    """Say how an accepted model does, and in how many seconds to look again at the latest."""
    suited = _nodes_suited(seen, mdep, going)
    left = stuck_in(seen, mdep, going, now)
    overdue = not going.complete and left <= timedelta(0)
    progressing, ready = _progress(mdep, going, resolved, suited, overdue=overdue)
    wait = None if going.complete or overdue else left.total_seconds()
    return (ACCEPTED, resolved, suited, _available(mdep, going), progressing, ready), wait


def withheld(marks: tuple[Mark, ...], resolved: Mark) -> tuple[Mark, ...]:
    """Say that pods may answer, but gateways are not told of them before a reference is found."""
    ready = Mark("Ready", resolved.status, resolved.reason, resolved.message)
    return tuple(ready if mark.type == "Ready" else mark for mark in marks)


def fields(seen: Observed, mdep: ModelDeployment, going: Rollout) -> dict[str, Any]:
    """The rest of the status."""
    stable = next(
        (
            cohort.revision
            for name, cohort in going.cohorts.items()
            if going.answering[name] >= going.wanted[name] > 0
        ),
        None,
    )
    return {
        "selector": selector(mdep),
        "modelName": public_name(mdep),
        "url": seen.env.url if going.placed else None,
        "stableRevision": stable,
        "variants": [
            _variant(seen, mdep, variant, rank, going)
            for rank, variant in enumerate(mdep.spec.variants, 1)
            if variant.name in going.cohorts
        ],
    } | counts(seen, mdep)


def counts(seen: Observed, mdep: ModelDeployment) -> dict[str, Any]:
    """How many pods the pool has, of all revisions."""
    pool = [pod for pod in seen.pods if pod.variant not in pinned(mdep)]
    return {
        "replicas": sum(not pod.deleting for pod in pool),
        "readyReplicas": sum(map(seen.answers, pool)),
    }


def _variant(
    seen: Observed, mdep: ModelDeployment, variant: Variant, rank: int, going: Rollout
) -> dict[str, Any]:
    pods = [pod for pod in seen.pods if pod.variant == variant.name and not pod.deleting]
    told: dict[str, Any] = {
        "name": variant.name,
        "rank": rank,
        "revision": going.cohorts[variant.name].revision,
        "replicas": len(pods),
        "readyReplicas": sum(map(seen.answers, pods)),
        "nodesSuited": _suited(seen, mdep, variant),
    }
    if variant.name in going.lacking():
        reason, sentence = _lack(going, variant.name)
        count = f"{going.answering[variant.name]} of {going.wanted[variant.name]} replicas answer"
        told |= {"reason": str(reason), "message": (sentence or count)[:1024]}
    return told


def _suited(seen: Observed, mdep: ModelDeployment, variant: Variant) -> int:
    return sum(suits(variant, mdep.spec.pod.node_selector, node) for node in seen.nodes)


def _nodes_suited(seen: Observed, mdep: ModelDeployment, going: Rollout) -> Mark:
    for variant in mdep.spec.variants:
        if going.wanted[variant.name] and not _suited(seen, mdep, variant):
            missing = f"variant {variant.name}: no node has {class_of(variant)}"
            sentence = f"{missing}; {there_are(seen.nodes)}"
            return Mark("NodesSuited", "False", Reason.NO_SUITED_NODE, sentence)
    sentence = "every variant has a node that could run it"
    return Mark("NodesSuited", "True", Reason.NODES_FOUND, sentence)


def _available(mdep: ModelDeployment, going: Rollout) -> Mark:
    if count := going.answering_anywhere:
        sentence = _answer(count)
        return Mark("Available", "True", Reason.MINIMUM_REPLICAS_READY, sentence)
    if not going.asked:
        reason, sentence = _nothing_asked(mdep)
        return Mark("Available", "False", reason, sentence)
    return Mark("Available", "False", Reason.REPLICAS_MISSING, "no replica answers")


def _progress(
    mdep: ModelDeployment, going: Rollout, resolved: Mark, suited: Mark, *, overdue: bool
) -> tuple[Mark, Mark]:
    """Progressing and Ready."""
    if not going.asked:
        reason, sentence = _nothing_asked(mdep)
        return (
            Mark("Progressing", "False", reason, sentence),
            Mark("Ready", "True", reason, sentence),
        )
    if going.complete:
        sentence = _answer(going.asked) if going.asked == 1 else f"all {_answer(going.asked)}"
        ready = Mark("Ready", "True", Reason.PROBE_ANSWERED, sentence)
        if resolved.status == "False":  # pods answer the probe, but not as the spec wants it
            ready = Mark("Ready", "False", resolved.reason, resolved.message)
        return Mark("Progressing", "False", Reason.ROLLOUT_COMPLETE, sentence), ready
    why = _why(going)
    if overdue:
        deadline = mdep.spec.rollout.progress_deadline
        reason = Reason.PROGRESS_DEADLINE_EXCEEDED
        said = f"nothing has moved for {deadline} (spec.rollout.progressDeadline): {why.message}"
        return Mark("Progressing", "False", reason, said), Mark("Ready", "False", reason, said)
    running = Reason.ROLLOUT_RUNNING if going.changing else Reason.SCALING
    moving = why.reason if why.reason == Reason.INSUFFICIENT_GPU else running
    return Mark("Progressing", "True", moving, why.message), _unready(why, resolved, suited)


def _unready(why: Mark, resolved: Mark, suited: Mark) -> Mark:
    """Starting is not failing: a GitOps health check reads Ready=False as Degraded."""
    if resolved.status == "False":
        return Mark("Ready", "False", resolved.reason, resolved.message)
    if why.reason == Reason.STARTING and suited.status == "False":
        return Mark("Ready", "Unknown", suited.reason, suited.message)
    return why


def _why(going: Rollout) -> Mark:
    """Say what is missing: the count, and the first variant's trouble, if it has one."""
    count = f"{going.answered} of {going.asked} replicas answer"
    if going.changing:
        count += " in the new revision"
    for name in going.lacking():
        reason, sentence = _lack(going, name)
        if sentence:
            status: Literal["False", "Unknown"] = (
                "False" if reason == Reason.PROBE_FAILED else "Unknown"
            )
            return Mark("Ready", status, reason, f"{count}; variant {name}: {sentence}")
    return Mark("Ready", "Unknown", Reason.STARTING, count)


def _lack(going: Rollout, variant: str) -> tuple[Reason, str]:
    """Say what keeps a variant's pods from answering; nothing known is an empty sentence."""
    name = going.cohorts[variant].name
    pods = [pod for pod in going.pods if pod.cohort == name]
    failed = [pod.answer for pod in pods if pod.ready_since is not None and pod.answer]
    if failed:
        return Reason.PROBE_FAILED, f"a ready pod did not answer the probe: {min(failed)}"
    if any(pod.lacks_gpu for pod in pods):
        return Reason.INSUFFICIENT_GPU, "a pod waits, because no suited node has a free GPU"
    problems: Sequence[str] = sorted(pod.problem for pod in pods if pod.problem)
    return Reason.STARTING, problems[0] if problems else ""


def _nothing_asked(mdep: ModelDeployment) -> tuple[Reason, str]:
    if mdep.spec.suspend:
        return Reason.SUSPENDED, "spec.suspend is true: no pods, clients get 503"
    return Reason.SCALED_TO_ZERO, "0 replicas are asked for"


def _answer(count: int) -> str:
    return f"{count} replica answers" if count == 1 else f"{count} replicas answer"
