"""From what was kept of a request to its explanation. Nothing here is hurried: somebody asked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Never

import msgspec

from headgate_api.snapshot import RouteBody, RouteRule
from headgate_gateway.calls.events import Usage
from headgate_gateway.explain.explanation import (
    Asked,
    Attempt,
    Budgets,
    Explanation,
    Matched,
    Outcome,
    Policy,
    Rule,
    Stage,
    Timings,
)
from headgate_gateway.explain.kept import Decided, Own, Record
from headgate_gateway.explain.record import DECIDED, OWN, Words, clipped
from headgate_gateway.routing import stage as routing
from headgate_gateway.routing.routes import Route
from headgate_gateway.telemetry.facts import CLIENT_CLOSED, OK, Facts
from headgate_gateway.timeline import Timeline
from headgate_gateway.usual import stamp, written
from headgate_policy import cel


def explain(record: Record) -> Explanation:
    """Tell all that is known of a request. No text that a client or a model wrote is in it."""
    own = OWN.decode(record.own)
    facts = msgspec.json.decode(line_of(record, own), type=Facts)
    ended = facts.status != 0 or facts.code != OK
    found = Explanation(
        id=facts.id,
        time=facts.time.isoformat(timespec="milliseconds") if ended else None,
        trace_id=facts.trace_id,
        asked=Asked(
            operation=facts.operation,
            name=facts.public_name,
            stream=facts.stream,
            tenant=facts.tenant,
            key=facts.key,
            user=facts.user,
        ),
        route=facts.route,
        model=facts.model,
        attempts=tuple(_attempts(facts)),
        budgets=_budgets(own, facts),
        outcome=_outcome(facts) if ended else None,
        timings=Timings(
            stages_ms=facts.stages_ms,
            first_text_ms=None if facts.first_token_s is None else _ms(facts.first_token_s),
            total_ms=_ms(facts.duration_s),
        ),
    )
    if record.route is not None:
        found.policy = policy_of(record.route)
    if record.route is not None and record.decided:
        body, decided = record.route.body, DECIDED.decode(record.decided)
        found.rules = rules_of(body, decided)
        found.stages = stages_of(decided, own.started)
        found.segments = decided.segments
        _settle(found)
    return found


def line_of(record: Record, own: Own) -> bytes:
    """Find its line of the log, or write it again."""
    if not record.common or own.ends_at is None:
        return record.line
    timeline = Timeline(own.started)
    timeline.names, timeline.seconds = record.names, own.stages
    timeline.first_text, timeline.ended = own.first_text, record.ended
    usage = Usage(
        own.input_tokens,
        own.output_tokens,
        cached_tokens=own.cached_tokens,
        reasoning_tokens=own.reasoning_tokens,
    )
    return written(
        common=record.common,
        stamp=stamp(int(own.now)),
        now=own.now,
        id=own.id,
        trace=own.trace,
        timeline=timeline,
        pod=own.pod,
        usage=usage,
        ends_at=own.ends_at,
    )


def policy_of(route: Route) -> Policy:
    identity = route.identity
    architecture = route.body.architecture
    return Policy(namespace=identity.namespace, name=identity.name, architecture=architecture)


def rules_of(body: RouteBody, decided: Decided, *, reasons: bool = True) -> tuple[Rule, ...]:
    """Explain for each route of a policy whether it took the request.

    Args:
        body: of the policy.
        decided: what it decided.
        reasons: find the parts of each rule that decided, too: 30 us each.
    """
    told = clipped(decided.words)
    words = {name: told[name] for name in cel.WHEN.words if name in told}
    seen = Seen(decided.words) if reasons else None
    return tuple(_rule(number, body, decided, words, seen) for number in range(len(body.routes)))


def _rule(
    number: int, body: RouteBody, decided: Decided, words: Words, seen: "Seen | None"
) -> Rule:
    rule = body.routes[number]
    found = Rule(
        route=rule.name,
        matched=_matched(number, rule, decided),
        when=rule.when,
        error=decided.errors.get(number),
        targets={target.model: target.weight for target in rule.targets},
        accept_when=rule.accept_when,
        verifier=None if rule.verifier is None else rule.verifier.model,
        fallback={other.route: other.triggers for other in rule.fallback},
        max_input_tokens=rule.context.max_input_tokens,
        truncates=rule.context.truncate,
    )
    if rule.when is None or found.matched not in ("yes", "no", "error"):
        return found
    when = cel.compile_rule(rule.when, cel.WHEN, headers=body.match_headers)
    asked = when.checked.words
    found.read = {name: value for name, value in words.items() if name in asked}
    if seen is None or found.matched == "error":
        return found
    told = when.explain(seen)
    # A value that was cut short may be another one for the rule, which saw all of it.
    if told.outcome is (found.matched == "yes"):
        found.because = tuple(map(str, told.because))
    return found


class Seen:
    """The words that were read when it was decided, for rules to read again."""

    def __init__(self, words: Mapping[str, Any]) -> None:
        for name, value in words.items():
            kept = tuple(value) if isinstance(value, list) else value
            setattr(self, name.replace(".", "_"), kept)

    def __getattr__(self, word: str) -> Never:
        raise cel.Failed("nobody looked at it")


def _matched(number: int, rule: RouteRule, decided: Decided) -> Matched:
    if rule.fallback_only:
        return "fallback only"
    if number in decided.errors:
        return "error"
    if number <= decided.rule:
        return "yes" if number == decided.rule else "no"
    # A later stage of a cascade is looked at only when it is its turn.
    results = [stage.result for stage in decided.stages if stage.route == rule.name]
    if not results:
        return "not reached"
    return "no" if results == ["skipped"] else "yes"


def stages_of(decided: Decided, started: float) -> tuple[Stage, ...]:
    """Explain the way of a request that arrived at `started`, on the clock of its stages."""
    return tuple(_stage(stage, started) for stage in decided.stages)


def _settle(found: Explanation) -> None:
    """Say of a stage that was the only one how it ended: as the request did."""
    outcome = found.outcome
    if outcome is None or len(found.stages) != 1 or found.stages[0].result:
        return
    (stage,) = found.stages
    stage.attempts = tuple(range(1, len(found.attempts) + 1))
    if outcome.code == OK:
        stage.result = "given"
    else:
        stage.result = "stopped" if outcome.code == CLIENT_CLOSED else "failed"
        stage.reason = outcome.code


def _stage(stage: routing.Stage, started: float) -> Stage:
    read, written = stage.tokens or (None, None)
    first, end = stage.attempts
    return Stage(
        route=stage.route,
        trigger=stage.trigger,
        repair=stage.repair,
        model=stage.model or None,
        variants=tuple(stage.variants),
        why=stage.why,
        speculation=stage.speculation,
        result=stage.result,
        reason=stage.reason or None,
        read=clipped(stage.words),
        began_ms=_ms(stage.started - started) if stage.started else None,
        took_ms=None if stage.ended is None else _ms(stage.ended - stage.started),
        attempts=tuple(range(first + 1, end + 1)),
        input_tokens=read,
        output_tokens=written,
    )


def _attempts(facts: Facts) -> Iterator[Attempt]:
    if facts.tries:
        for one in facts.tries:
            yield Attempt(
                pod=one.pod,
                model=one.model or None,
                hedge=one.hedge,
                result=one.result,
                began_ms=one.at_ms,
                took_ms=one.ms,
            )
    elif facts.pod is not None:
        # The only one: it had all the time that was left by the stages.
        before = sum(facts.stages_ms.values())
        yield Attempt(
            pod=facts.pod,
            cohort=facts.cohort,
            result=facts.code,
            began_ms=round(before, 3),
            took_ms=round(max(0.0, facts.duration_s * 1000 - before), 1),
        )


def _budgets(own: Own, facts: Facts) -> Budgets:
    if own.ends_at is None:
        return Budgets()
    return Budgets(
        seconds=round(own.ends_at - own.started, 3),
        set_by=own.set_by,
        left_ms=facts.deadline_left_ms,
        max_output_tokens=own.max_tokens,
        max_total_tokens=own.max_total_tokens,
        used_tokens=own.used_tokens,
        context=facts.context,
    )


def _outcome(facts: Facts) -> Outcome:
    refused = facts.code != OK and not facts.attempts
    return Outcome(
        status=facts.status,
        code=facts.code,
        stage=_last(list(facts.stages_ms)) if refused else None,
        finish_reason=facts.finish_reason,
        input_tokens=facts.input_tokens,
        output_tokens=facts.output_tokens,
        cached_tokens=facts.cached_tokens,
        reasoning_tokens=facts.reasoning_tokens,
        tokens_estimated=facts.tokens_estimated,
        idempotency=facts.idempotency,
    )


def _last(stages: Sequence[str]) -> str:
    return stages[-1] if stages else "edge"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
