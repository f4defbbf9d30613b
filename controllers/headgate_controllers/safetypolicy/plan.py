"""What one SafetyPolicy needs now. Pure: no I/O, no clock, no randomness, no cache."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headgate_api.conditions import Reason
from headgate_api.errors import Invalid
from headgate_api.safetypolicy import SafetyPolicy, SafetyRule
from headgate_controllers.contract import Note, Plan
from headgate_controllers.safetypolicy import resources, status
from headgate_controllers.standing import Subject, refused
from headgate_policy.patterns import PatternUnsupported, pattern
from headgate_policy.snapshot import make_entry


@dataclass(frozen=True, slots=True)
class Observed:
    """All that this decision may depend on."""

    subject: Subject
    policy: SafetyPolicy | Invalid


def pattern_is_re2(rule: SafetyRule) -> Note | None:
    try:
        pattern(rule.pattern)
    except PatternUnsupported as error:
        sentence = f"{_field(rule)}.pattern: {error}; write RE2, without look-around"
        return Note(Reason.PATTERN_UNSUPPORTED, sentence)
    return None


def positive_examples_match(rule: SafetyRule) -> Note | None:
    for number, text in enumerate(rule.examples.positive):
        if not pattern(rule.pattern).found_in(text):
            sentence = f'examples.positive[{number}]: the pattern does not match "{text}"'
            return Note(Reason.EXAMPLE_FAILED, f"{_field(rule)}.{sentence}; it must")
    return None


def negative_examples_pass(rule: SafetyRule) -> Note | None:
    for number, text in enumerate(rule.examples.negative):
        if pattern(rule.pattern).found_in(text):
            sentence = f'examples.negative[{number}]: the pattern matches "{text}"'
            return Note(Reason.EXAMPLE_FAILED, f"{_field(rule)}.{sentence}; it must not")
    return None


ACCEPTANCE: Final[tuple[Callable[[SafetyRule], Note | None], ...]] = (
    pattern_is_re2,  # The gateway's matcher has nothing that could become slow
    positive_examples_match,  # A rule that misses what it is for protects nobody
    negative_examples_pass,  # A rule that hits what it is not for stops everybody
)


def plan(seen: Observed, now: datetime) -> Plan:
    """Decide what `seen` calls for at `now`."""
    subject, policy = seen.subject, seen.policy
    if isinstance(policy, Invalid):
        return refused(subject, Note(Reason.SPEC_INVALID, str(policy)), now)
    checks = (check(rule) for rule in policy.spec.rules for check in ACCEPTANCE)
    if finding := next(filter(None, checks), None):
        return refused(subject, finding, now)
    entry = make_entry(
        subject.identity,
        uid=subject.uid,
        generation=subject.generation,
        body=resources.body(policy),
        requires=("input-rules",) if policy.spec.rules else (),
    )
    return status.enforced(subject, policy.spec.rollout.mode, now, entry=entry)


def _field(rule: SafetyRule) -> str:
    return f"spec.rules[{rule.name}]"
