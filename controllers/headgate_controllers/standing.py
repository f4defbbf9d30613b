"""How an object stands: what the four kinds say in the same words, and how they say it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from headgate_api.conditions import Mark, Reason, settle
from headgate_api.snapshot import Entry, Identity, Kind
from headgate_controllers.contract import (
    Cache,
    Key,
    Manifest,
    Missing,
    Note,
    Plan,
    Programmed,
    Unreadable,
)

LARGEST_BODY: Final = 900_000
"""Bytes of an entry's body: one ConfigMap, of 1 MiB, must hold it."""
MOST_TOLD: Final = 3
"""Faults in one message."""
LONGEST_TOLD: Final = 1000
"""Characters of several; a message has 1024."""
ALL_RESOLVED: Final = Mark(
    "ResolvedRefs", "True", Reason.REFS_RESOLVED, "everything that the object names was found"
)
_FAULTS: Final = frozenset({"Accepted", "ResolvedRefs", "NodesSuited", "SpecHonored", "Ready"})
"""The conditions whose turning False is worth an event; others follow from these."""
_TOLD: Final = frozenset({Reason.ROLLOUT_RUNNING, Reason.INSUFFICIENT_GPU})
_PROBLEM: Final = {"False": 0, "Unknown": 1, "True": 2}


@dataclass(frozen=True, slots=True)
class Subject:
    """The object of a pass, and how far it is in force."""

    manifest: Manifest
    kept: Entry | None
    """Its entry that is in force: the last accepted version, maybe this one."""
    programmed: Programmed

    @property
    def identity(self) -> Identity:
        meta = self.manifest["metadata"]
        kind = cast(Kind, self.manifest["kind"])
        return Identity(kind=kind, namespace=meta["namespace"], name=meta["name"])

    @property
    def uid(self) -> str:
        return str(self.manifest["metadata"]["uid"])

    @property
    def generation(self) -> int:
        return int(self.manifest["metadata"]["generation"])

    @property
    def conditions(self) -> Sequence[dict[str, Any]]:
        return cast(Sequence[dict[str, Any]], self.manifest.get("status", {}).get("conditions", ()))


def subject_of(key: Key, cache: Cache) -> Subject | None:
    """Look the object up. None: it is gone, or on its way: deleting acts at once."""
    manifest = cache.get(key)
    if manifest is None or "deletionTimestamp" in manifest["metadata"]:
        return None
    meta = manifest["metadata"]
    kept = cache.accepted(key)
    if kept is not None and kept.uid != meta["uid"]:
        kept = None  # of an older object with the same name
    return Subject(manifest, kept, cache.programmed(key, meta["generation"]))


def resolved(problems: Iterable[Note]) -> Mark:
    """Tell of references: what is wrong goes before what only could not be read."""
    notes = sorted(problems, key=lambda note: note.reason == Reason.SOURCE_UNREADABLE)
    if not notes:
        return ALL_RESOLVED
    first, sentence = notes[0], together(notes)
    if first.reason == Reason.SOURCE_UNREADABLE:
        return Mark("ResolvedRefs", "Unknown", first.reason, sentence)
    return Mark("ResolvedRefs", "False", first.reason, sentence)


def entry_fault(
    found: Collection[str] | Missing | Unreadable, key: Key, entry: str, field: str
) -> Note | None:
    """Say what is wrong with a reference to one entry of a Secret or ConfigMap.

    Args:
        found: the names of its entries.
        key: the Secret or ConfigMap.
        entry: the entry that is named.
        field: where it is named.
    """
    if isinstance(found, Missing):
        reason = Reason.SECRET_NOT_FOUND if key.kind == "Secret" else Reason.CONFIG_MAP_NOT_FOUND
        return Note(reason, f'{field}: there is no {key.kind} "{key.name}"')
    if isinstance(found, Unreadable):
        sentence = f'{field}: {key.kind} "{key.name}" cannot be read ({found.why})'
        return Note(Reason.SOURCE_UNREADABLE, f"{sentence}; what was known before stays in force")
    if entry not in found:
        sentence = f'{field}: {key.kind} "{key.name}" has no entry "{entry}"'
        return Note(Reason.KEY_NOT_FOUND, sentence)
    return None


def and_more(count: int) -> str:
    """Say how many others there are beside the one that a sentence names."""
    return f" (and {count - 1} more)" if count > 1 else ""


def together(notes: Sequence[Note]) -> str:
    """Tell of several faults, each of which names its field, as many as there is room for."""
    told, *others = (note.sentence for note in notes)
    more = len(others)
    for sentence in others[: MOST_TOLD - 1]:
        if len(told) + len(sentence) > LONGEST_TOLD:
            break
        told += f"; {sentence}"
        more -= 1
    return told + and_more(more + 1)


def refused(subject: Subject, finding: Note, now: datetime, *others: Mark, **fields: Any) -> Plan:
    """This generation is wrong; the last accepted one, if any, stays in force."""
    accepted = Mark("Accepted", "False", finding.reason, finding.sentence)
    return held_back(subject, accepted, now, *others, **fields)


def held_back(subject: Subject, why: Mark, now: datetime, *others: Mark, **fields: Any) -> Plan:
    """This generation does not come into force; the last accepted one, if any, stays.

    Args:
        subject: the object.
        why: what is wrong with it.
        now: the time.
        others: what else is.
        fields: of the status.
    """
    kept = subject.kept
    if kept is None:
        programmed = Mark("Programmed", "False", why.reason, "nothing of it is in force")
    else:
        sentence = f"generation {kept.generation}, accepted last, stays in force"
        programmed = Mark("Programmed", "True", Reason.KEPT_LAST_ACCEPTED, sentence)
    ready = Mark("Ready", why.status, why.reason, why.message)
    return conclude(subject, (why, *others, programmed, ready), now, entry=kept, **fields)


def in_force(
    subject: Subject,
    accepted: Mark,
    resolved: Mark,
    ready: Mark,
    now: datetime,
    *,
    entry: Entry | None,
    honored: Mark | None = None,
    requeue_after: float | None = None,
    **fields: Any,
) -> Plan:
    """This generation is good; what stands in its way, if anything, is what Ready tells."""
    if entry is not None and len(bytes(entry.body)) > LARGEST_BODY:
        sentence = f"spec: compiled it is larger than {LARGEST_BODY} bytes; split it"
        return refused(subject, Note(Reason.SPEC_INVALID, sentence, warning=True), now, **fields)
    programmed = _programmed(subject)
    # Not True is not yet wrong: gateways that are behind, or none at all, make Ready Unknown.
    waiting = Mark("Programmed", "Unknown", programmed.reason, programmed.message)
    blockers = (accepted, resolved, programmed if programmed.status == "True" else waiting, ready)
    worst = min(blockers, key=lambda mark: _PROBLEM[mark.status])
    summary = ready if worst.status == "True" else worst
    told = Mark("Ready", summary.status, summary.reason, summary.message)
    marks = (accepted, resolved, *filter(None, (honored,)), programmed, told)
    return conclude(subject, marks, now, entry=entry, requeue_after=requeue_after, **fields)


def conclude(
    subject: Subject,
    marks: Sequence[Mark],
    now: datetime,
    *,
    entry: Entry | None = None,
    requeue_after: float | None = None,
    scaled: Iterable[tuple[Key, int]] = (),
    wanted: Iterable[Manifest] = (),
    unwanted: Iterable[Key] = (),
    **fields: Any,
) -> Plan:
    """Make the plan whose status says `marks` and `fields`. A field that is None is left out."""
    status = {
        "observedGeneration": subject.generation,
        "conditions": settle(subject.conditions, marks, subject.generation, now),
    } | {name: value for name, value in fields.items() if value is not None}
    return Plan(
        status=status,
        scaled=tuple(scaled),
        wanted=tuple(wanted),
        unwanted=tuple(unwanted),
        entry=entry,
        notes=news(subject.conditions, marks),
        requeue_after=requeue_after,
    )


def news(before: Sequence[dict[str, Any]], marks: Iterable[Mark]) -> tuple[Note, ...]:
    """Notes on what has just gone wrong, on a change and on getting ready: one for each reason."""
    was = {condition["type"]: (condition["status"], condition["reason"]) for condition in before}
    notes: dict[Reason, Note] = {}
    for mark in marks:
        fresh = was.get(mark.type) != (mark.status, mark.reason)
        wrong = mark.status == "False" and mark.type in _FAULTS
        ready = (mark.type, mark.status) == ("Ready", "True")
        if fresh and (wrong or ready or mark.reason in _TOLD):
            notes.setdefault(mark.reason, Note(mark.reason, mark.message, warning=wrong))
    return tuple(notes.values())


def seniority(manifest: Manifest) -> tuple[str, str, str]:
    """Sort those who claim the same name: the oldest has it, then the first by name."""
    meta = manifest["metadata"]
    return (meta.get("creationTimestamp", ""), meta["namespace"], meta["name"])


def senior(manifest: Manifest, claimants: Iterable[Manifest]) -> Manifest | None:
    """Find who has a claim before `manifest` does; None: nobody."""
    mine = seniority(manifest)
    older = [
        other
        for other in claimants
        if seniority(other) < mine and "deletionTimestamp" not in other["metadata"]
    ]
    return min(older, key=seniority, default=None)


def created(manifest: Manifest) -> int:
    """Seconds since 1970 of the object's creation."""
    stamp = manifest["metadata"]["creationTimestamp"]
    return int(datetime.fromisoformat(stamp).astimezone(UTC).timestamp())


def _programmed(subject: Subject) -> Mark:
    generation = subject.generation
    if subject.programmed.state == "AllGateways" or _was_programmed(subject):
        sentence = f"every Ready gateway enforces generation {generation}"
        return Mark("Programmed", "True", Reason.ALL_GATEWAYS, sentence)
    if subject.programmed.state == "NoGateways":
        sentence = "no gateway is Ready, so nobody enforces it"
        return Mark("Programmed", "Unknown", Reason.NO_GATEWAYS, sentence)
    # Who is behind changes by the second: that is a metric, not a status.
    sentence = f"a Ready gateway does not enforce generation {generation} yet"
    return Mark("Programmed", "False", Reason.GATEWAYS_BEHIND, sentence)


def _was_programmed(subject: Subject) -> bool:
    """Tell whether every gateway has had this generation before.

    A gateway is Ready only with the current snapshot, so this never becomes untrue; a new leader
    that has asked no gateway yet must not say otherwise.
    """
    return any(
        condition["type"] == "Programmed"
        and condition["status"] == "True"
        and condition["reason"] == Reason.ALL_GATEWAYS
        and condition.get("observedGeneration") == subject.generation
        for condition in subject.conditions
    )
