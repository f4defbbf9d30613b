"""What one ModelDeployment needs now. Pure: no I/O, no clock, no randomness, no cache."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from headgate_api.conditions import Reason
from headgate_api.errors import Invalid
from headgate_api.modeldeployment import ModelDeployment
from headgate_api.snapshot import Cohort, Entry
from headgate_controllers.contract import Key, Manifest, Note, Plan
from headgate_controllers.modeldeployment import resources, status
from headgate_controllers.modeldeployment.acceptance import verdict
from headgate_controllers.modeldeployment.observed import Observed
from headgate_controllers.modeldeployment.references import Resolved, resolve
from headgate_controllers.modeldeployment.revisions import controller_revision, superseded
from headgate_controllers.modeldeployment.rollout import Rollout, rollout
from headgate_controllers.standing import conclude
from headgate_policy.snapshot import make_entry


def plan(seen: Observed, now: datetime) -> Plan:
    """Decide what `seen` calls for at `now`."""
    found = verdict(seen)
    if isinstance(found, ModelDeployment):
        return reconciled(seen, found, now)
    if isinstance(seen.accepted, ModelDeployment):
        return reconciled(seen, seen.accepted, now, refusal=found)
    return frozen(seen, found, now)


def reconciled(
    seen: Observed, mdep: ModelDeployment, now: datetime, *, refusal: Note | None = None
) -> Plan:
    """Make it as `mdep` says: as it is now or, where that got a `refusal`, as accepted last."""
    placed = is_placed(mdep, seen.env.region)
    going = rollout(seen, mdep, placed=placed)
    resolved = resolve(seen, mdep)
    if placed:
        marks, wait = status.marks(seen, mdep, going, resolved.mark, now)
        if not resolved.usable:
            marks = status.withheld(marks, resolved.mark)
    else:
        marks, wait = status.not_placed(seen.env.region), None
    if refusal is not None:
        marks = status.refused(marks, refusal, accepted=mdep.metadata.generation)
    return conclude(
        seen.subject,
        marks,
        now,
        entry=entry(seen, mdep, going, resolved) if placed else None,
        requeue_after=wait,
        scaled=scaled(seen, going),
        wanted=wanted(seen, mdep, going),
        unwanted=unwanted(seen, mdep, going),
        **status.fields(seen, mdep, going),
    )


def frozen(seen: Observed, refusal: Note, now: datetime) -> Plan:
    """Leave everything as it is: the spec is refused, and what came before it is not known."""
    subject = seen.subject
    if refusal.reason == Reason.NAME_CONFLICT:
        subject = replace(subject, kept=None)  # the public name leads to the older object
    counts = {} if isinstance(seen.mdep, Invalid) else status.counts(seen, seen.mdep)
    return conclude(subject, status.frozen(seen, refusal), now, entry=subject.kept, **counts)


def is_placed(mdep: ModelDeployment, region: str) -> bool:
    placement = mdep.spec.placement
    return placement is None or any(place.name == region for place in placement.regions)


def scaled(seen: Observed, going: Rollout) -> Iterator[tuple[Key, int]]:
    """Make old cohorts smaller: their manifests are gone with the spec that they came from."""
    namespace = seen.subject.identity.namespace
    for old in going.olds:
        if going.sizes.old[old.name] < old.replicas:
            yield Key("Deployment", namespace, old.name), going.sizes.old[old.name]


def wanted(seen: Observed, mdep: ModelDeployment, going: Rollout) -> Iterator[Manifest]:
    yield controller_revision(mdep, seen.spec)
    if going.placed:
        yield resources.network_policy(mdep, seen.env)
        yield resources.service(mdep)
        yield resources.disruption_budget(mdep)
    for name, cohort in going.cohorts.items():
        yield resources.config_map(mdep, cohort)
        yield resources.deployment(mdep, cohort, going.sizes.new[name])


def unwanted(seen: Observed, mdep: ModelDeployment, going: Rollout) -> Iterator[Key]:
    """Old cohorts without pods, what they used, old revisions, and what is placed elsewhere."""
    namespace = mdep.metadata.namespace
    drained = {old.name for old in going.drained}
    used = {cohort.name for cohort in going.cohorts.values()}
    used |= {old.name for old in going.olds} - drained
    for name in sorted(drained):
        yield Key("Deployment", namespace, name)
    for name in sorted(seen.config_maps):
        if name not in used:
            yield Key("ConfigMap", namespace, name)
    yield from superseded(seen.revisions, controller_revision(mdep, seen.spec))
    if not going.placed:
        for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            yield Key(kind, namespace, mdep.metadata.name)


def entry(
    seen: Observed, mdep: ModelDeployment, going: Rollout, resolved: Resolved
) -> Entry | None:
    """The model in the snapshot. Old and new pods both serve, as long as they are there."""
    if not resolved.usable:
        return None
    body = resources.body(
        mdep,
        tuple(_cohorts(seen, mdep, going)),
        created=seen.created,
        chat_template=resolved.template,
    )
    spoken = {cohort.runtime for cohort in body.cohorts}
    return make_entry(
        seen.subject.identity,
        uid=seen.subject.uid,
        generation=mdep.metadata.generation,
        body=body,
        requires=spoken & {"trtllm-serve"},
    )


def _cohorts(seen: Observed, mdep: ModelDeployment, going: Rollout) -> Iterator[Cohort]:
    for name, cohort in going.cohorts.items():
        if going.sizes.new[name] or cohort.name in going.occupied:
            yield resources.cohort_body(mdep, cohort.name, name, cohort.revision)
    # An old cohort may run on another runtime, or guess otherwise, than the spec says now.
    kept = {} if seen.kept is None else {cohort.name: cohort for cohort in seen.kept.cohorts}
    for old in going.olds:
        if going.sizes.old[old.name] or old.name in going.occupied:
            now = resources.cohort_body(mdep, old.name, old.variant, old.revision)
            yield kept.get(old.name, now)
