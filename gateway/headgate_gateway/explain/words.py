"""An explanation in plain English, for a terminal."""

from collections.abc import Iterator, Sequence
from typing import Final

from headgate_gateway.explain.explanation import Attempt, Explanation, Prospect, Rule, Stage
from headgate_gateway.explain.speculation import pool
from headgate_gateway.explain.values import listed, pairs, span
from headgate_gateway.telemetry.facts import CLIENT_CLOSED, OK

WHY: Final = {
    "only": "the only target that was ready",
    "weight": "drawn by weight",
    "sticky": "its key keeps it there",
    "fixed": "the answer is fixed",
}
ARCHITECTURE: Final = {
    "Single": "its one route takes everything",
    "Router": "the first route whose `when` is true takes the request",
    "Cascade": "routes are tried in order until an answer is accepted",
}
RESULT: Final = {
    "": "in work",
    "given": "its answer was given",
    "accepted": "its answer was accepted",
    "rejected": "its answer was not accepted",
    "failed": "it failed",
    "skipped": "not asked",
    "stopped": "stopped",
}
ENDING: Final = {
    "complete": "complete",
    "stopped": "stopped where it could be",
    "broken": "broken off",
    "left": "the client left",
}


def words(found: Explanation) -> str:
    """Say it in lines. Ends with a line break."""
    parts = (
        [_opening(found), *_outcome(found)],
        _policy(found),
        _stages(found),
        _prospects(found),
        _attempts(found),
        _segments(found),
        _budgets(found),
        _timings(found),
    )
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part))) + "\n"


def _opening(found: Explanation) -> str:
    asked = found.asked
    what = {"chat": "A chat", "text_completion": "A completion", "embeddings": "Embeddings"}.get(
        asked.operation, "Something"
    )
    name = f' for the model "{asked.name}"' if asked.name is not None else ""
    who = (
        f", asked by tenant {asked.tenant}"
        if asked.tenant is not None
        else ", asked by nobody known"
    )
    more = [f"key {asked.key}"] * (asked.key is not None) + [f"user {asked.user}"] * bool(
        asked.user
    )
    marks = f" ({', '.join(more)})" if more else ""
    stream = ", as a stream" if asked.stream else ""
    first = f"Request {found.id}: " if found.id is not None else ""
    return f"{first}{what}{name}{stream}{who}{marks}."


def _outcome(found: Explanation) -> Iterator[str]:
    outcome, timings = found.outcome, found.timings
    if outcome is None:
        if timings is not None:
            yield f"It is in work, for {span(timings.total_ms)} so far."
        return
    after = f" after {span(timings.total_ms)}" if timings is not None else ""
    at = f" (it ended at {found.time})" if found.time is not None else ""
    if outcome.code == OK:
        end = f", finish reason {outcome.finish_reason}" if outcome.finish_reason else ""
        by = f" by {found.route}" if found.route is not None else ""
        yield f"Answered{by} with status {outcome.status}{after}{end}{at}."
    elif outcome.code == CLIENT_CLOSED:
        yield f"The client left{after}{at}."
    else:
        where = f" by the stage {outcome.stage}" if outcome.stage is not None else ""
        what = "Refused" if outcome.stage is not None else "Failed"
        yield f"{what}{where} with status {outcome.status}, {outcome.code}{after}{at}."
        if outcome.message is not None:
            yield f"The client is told: {outcome.message}"
    if outcome.idempotency is not None:
        yield f"Its Idempotency-Key: {outcome.idempotency}."


def _policy(found: Explanation) -> Iterator[str]:
    policy = found.policy
    if policy is None:
        if found.model is not None:
            yield (
                "No RoutingPolicy claims the name: it is that of the ModelDeployment "
                f"{found.model}."
            )
        return
    how = f"{policy.architecture}: {ARCHITECTURE[policy.architecture]}"
    yield f"Policy {policy.namespace}/{policy.name} claims the name ({how})."
    for rule in found.rules:
        yield f"  {_rule(rule)}"
        for number, part in enumerate(rule.because):
            yield f"    {'and' if number else 'because'} {part}"
        if rule.matched in ("yes", "fallback only") or (
            policy.architecture == "Cascade" and rule.matched == "not reached"
        ):
            yield f"    {_leads(rule)}"


def _rule(rule: Rule) -> str:
    when = f", when {rule.when}" if rule.when is not None else ""
    match rule.matched:
        case "error":
            return f"{rule.route}: no{when}, which has no value: {rule.error}"
        case "yes" if rule.when is None:
            return f"{rule.route}: yes, it takes all that comes to it"
        case matched:
            return f"{rule.route}: {matched}{when}"


def _leads(rule: Rule) -> str:
    """Say what a route does with a request."""
    whole = sum(rule.targets.values())
    to = ", ".join(
        name if len(rule.targets) == 1 else f"{name} ({weight} of {whole})"
        for name, weight in rule.targets.items()
    )
    parts = [f"leads to {to}" if to else "has a fixed answer"]
    if rule.accept_when is not None:
        scored = f", scored by {rule.verifier}" if rule.verifier is not None else ""
        parts.append(f"accepts an answer when {rule.accept_when}{scored}")
    for route, triggers in rule.fallback.items():
        parts.append(f"falls back to {route} after {' or '.join(triggers)}")
    if rule.max_input_tokens is not None:
        beyond = "leaves out" if rule.truncates else "refuses"
        parts.append(f"{beyond} what is beyond {rule.max_input_tokens} tokens of input")
    return "; ".join(parts)


def _stages(found: Explanation) -> Iterator[str]:
    if not found.stages:
        return
    made, refused = found.id is not None, found.outcome is not None
    ahead = "" if made else "not asked" if refused else "it would be asked"
    yield "Its way:"
    for number, stage in enumerate(found.stages, 1):
        yield f"  {number}. {_stage(stage, ahead)}"


def _stage(stage: Stage, ahead: str) -> str:
    """Say what became of a stage or, of a request that is not made, what is `ahead` of it."""
    parts = [f"route {stage.route}"]
    if stage.trigger is not None:
        parts.append(f"a fallback, since the one before ended with {stage.trigger}")
    if stage.repair:
        parts.append("with the answer before and what was wrong with it")
    if stage.model is not None or stage.why == "fixed":
        parts.append(_target(stage))
    if ahead and stage.input_tokens is not None:
        parts.append(f"about {stage.input_tokens} tokens of input")
    result = ahead if ahead and not stage.result else RESULT[stage.result]
    reason = f": {stage.reason}" if stage.reason is not None else ""
    read = f" [{pairs(stage.read)}]" if stage.read else ""
    took = f", after {span(stage.took_ms)}" if stage.took_ms is not None else ""
    tokens = f", {stage.output_tokens} tokens" if stage.output_tokens is not None else ""
    several = "s" if len(stage.attempts) > 1 else ""
    tried = f", attempt{several} {listed(map(str, stage.attempts))}" if stage.attempts else ""
    return f"{', '.join(parts)}: {result}{reason}{read}{took}{tokens}{tried}"


def _prospects(found: Explanation) -> Iterator[str]:
    if not found.prospects:
        return
    yield "What could follow:"
    for prospect in found.prospects:
        ways = (_way(*way) for way in prospect.after.items())
        yield f"  {' or '.join(ways)}: route {prospect.route}, {_prospect(prospect)}"


def _way(route: str, triggers: Sequence[str]) -> str:
    return f"after {' or '.join(triggers)} of {route}" if triggers else f"after {route}"


def _prospect(prospect: Prospect) -> str:
    parts = []
    if prospect.model is not None or prospect.why == "fixed":
        parts.append(_target(prospect))
    if prospect.reason is not None:
        return ", ".join([*parts, f"which could not be asked: {prospect.reason}"])
    if prospect.input_tokens is not None:
        parts.append(f"about {prospect.input_tokens} tokens of input")
    if prospect.context is not None:
        parts.append(prospect.context)
    if prospect.repair:
        parts.append("and after Rejected its answer before and what was wrong with it")
    if prospect.max_output_tokens is not None:
        parts.append(f"at most {prospect.max_output_tokens} of output")
    return ", ".join(parts)


def _target(of: Stage | Prospect) -> str:
    if of.model is None:
        return WHY["fixed"]
    variants = f" in variant {' or '.join(of.variants)}" if of.variants else ""
    guessing = f", {pool(of.speculation)}" if of.speculation is not None else ""
    return f"model {of.model}{variants} ({WHY[of.why]}){guessing}"


def _attempts(found: Explanation) -> Iterator[str]:
    if not found.attempts:
        return
    yield "Attempts at model servers:"
    for number, attempt in enumerate(found.attempts, 1):
        yield f"  {number}. {_attempt(attempt)}"


def _attempt(attempt: Attempt) -> str:
    hedge = ", as a hedge" if attempt.hedge else ""
    model = f" of {attempt.model}" if attempt.model is not None else ""
    times = f"from {span(attempt.began_ms)}, for {span(attempt.took_ms)}"
    return f"{attempt.pod}{model}{hedge}: {attempt.result}, {times}"


def _segments(found: Explanation) -> Iterator[str]:
    segments = found.segments
    if segments is None:
        return
    yield "Segments:"
    first = f", the first after {span(segments.first_ms)}" if segments.first_ms is not None else ""
    gap = segments.longest_gap_ms
    longest = f", the longest gap {span(gap)}" if gap is not None else ""
    yield f"  {segments.count}{first}{longest}; {ENDING[segments.ending]}"
    if segments.causes:
        causes = ", ".join(f"{cause} {count}" for cause, count in segments.causes.items())
        yield f"  ended by: {causes}"
    if segments.retracts:
        yield "  one seems to take back what was said"


def _budgets(found: Explanation) -> Iterator[str]:
    budgets, outcome = found.budgets, found.outcome
    lines = []
    if budgets.seconds is not None:
        by = "the policy" if budgets.set_by == "policy" else f"the client's {budgets.set_by}"
        left = budgets.left_ms
        rest = f"; {span(left)} were left" if left is not None and left >= 0 else ""
        over = f"; it took {span(-left)} longer" if left is not None and left < 0 else ""
        lines.append(f"time: {span(budgets.seconds * 1000)}, by {by}{rest}{over}")
    if outcome is not None and outcome.input_tokens is not None:
        about = "about " if outcome.tokens_estimated else ""
        cached = f", {outcome.cached_tokens} of them cached" if outcome.cached_tokens else ""
        lines.append(f"input: {about}{outcome.input_tokens} tokens{cached}")
    if budgets.context is not None:
        lines.append(f"input: {budgets.context}")
    if budgets.max_output_tokens is not None:
        used = (
            f"{outcome.output_tokens} of " if outcome and outcome.output_tokens is not None else ""
        )
        lines.append(f"output: {used}at most {budgets.max_output_tokens} tokens")
    if budgets.max_total_tokens is not None:
        lines.append(f"all calls: {budgets.used_tokens} of {budgets.max_total_tokens} tokens")
    if lines:
        yield "Budgets:"
        yield from (f"  {line}" for line in lines)


def _timings(found: Explanation) -> Iterator[str]:
    timings = found.timings
    if timings is None:
        return
    yield "Time:"
    stages = ", ".join(f"{name} {span(ms)}" for name, ms in timings.stages_ms.items())
    if stages:
        yield f"  {stages}"
    if timings.first_text_ms is not None:
        yield f"  first text after {span(timings.first_text_ms)}"
    yield f"  all of it {span(timings.total_ms)}"
