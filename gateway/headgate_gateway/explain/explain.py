"""From what was kept of a request to its explanation. Nothing here is hurried: somebody asked."""

from collections.abc import Iterator, Sequence

import msgspec

from headgate_api.snapshot import RouteBody, RouteRule
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
from headgate_gateway.explain.record import DECIDED, Decided, Record, Words, clipped
from headgate_gateway.routing import decision
from headgate_gateway.routing.tables import Route
from headgate_gateway.telemetry.facts import OK, Facts


def explain(record: Record) -> Explanation:
    """Explain a request that has ended.

    Returns:
        all that is known about it; no text that a client or a model wrote.
    """
    facts = msgspec.json.decode(record.line, type=Facts)
    found = Explanation(
        id=facts.id,
        time=facts.time.isoformat(timespec="milliseconds"),
        trace_id=facts.trace_id,
        asked=Asked(
            operation=facts.operation,
            name=facts.public_name,
            stream=facts.stream,
            tenant=facts.tenant,
            key=facts.key,
            user=facts.user,
        ),
        model=facts.model,
        attempts=tuple(_attempts(facts)),
        budgets=_budgets(record, facts),
        outcome=_outcome(facts),
        timings=Timings(
            stages_ms=facts.stages_ms,
            first_text_ms=None if facts.first_token_s is None else _ms(facts.first_token_s),
            total_ms=_ms(facts.duration_s),
        ),
    )
    if record.route is not None and record.decided:
        add_decision(found, record.route, DECIDED.decode(record.decided), record.started)
    return found


def add_decision(found: Explanation, route: Route, decided: Decided, started: float) -> None:
    """Add what a policy decided.

    Args:
        found: what is known otherwise.
        route: the policy.
        decided: what it decided.
        started: when the request arrived, on the clock of its stages.
    """
    identity, body = route.identity, route.body
    found.policy = Policy(
        namespace=identity.namespace, name=identity.name, architecture=body.architecture
    )
    found.rules = tuple(_rules(body, decided))
    by_name = {rule.name: rule for rule in body.routes}
    found.stages = tuple(_stage(stage, by_name[stage.route], started) for stage in decided.stages)


def _rules(body: RouteBody, decided: Decided) -> Iterator[Rule]:
    for number, rule in enumerate(body.routes):
        yield Rule(
            route=rule.name,
            matched=_matched(number, rule, decided),
            when=rule.when,
            read=_read(rule.when, decided.words),
            error=decided.errors.get(number),
        )


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


def _read(rule: str | None, words: Words) -> Words:
    """Pick the words of a rule."""
    return {name: value for name, value in words.items() if name in (rule or "")}


def _stage(stage: decision.Stage, rule: RouteRule, started: float) -> Stage:
    usage = stage.usage
    first, end = stage.attempts
    return Stage(
        route=stage.route,
        trigger=stage.trigger,
        repair=stage.repair,
        model=stage.model or None,
        variants=tuple(stage.variants),
        why=stage.why,
        weights={t.model: t.weight for t in rule.targets} if len(rule.targets) > 1 else {},
        result=stage.result,
        reason=stage.reason or None,
        read=_read(rule.accept_when, clipped(stage.words)),
        accept_when=rule.accept_when,
        began_ms=_ms(stage.started - started) if stage.started else None,
        took_ms=None if stage.ended is None else _ms(stage.ended - stage.started),
        attempts=tuple(range(first + 1, end + 1)),
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
    )


def _attempts(facts: Facts) -> Iterator[Attempt]:
    if facts.tries:
        for one in facts.tries:
            yield Attempt(
                pod=one.pod, hedge=one.hedge, result=one.result, began_ms=one.at_ms, took_ms=one.ms
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


def _budgets(record: Record, facts: Facts) -> Budgets:
    deadline = record.deadline
    if deadline is None:
        return Budgets()
    return Budgets(
        seconds=round(deadline.ends_at - record.started, 3),
        set_by=deadline.source,
        left_ms=facts.deadline_left_ms,
        max_output_tokens=record.max_tokens,
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
