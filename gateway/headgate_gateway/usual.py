"""Requests that end as nearly all do: one model server was asked, and gave the whole answer.

What such requests of one kind have in common is found once, with one look-up for each: the series
that they add to and the beginning of their lines in the log. Their numbers wait for each other, as
many values are added to a histogram faster together. Whoever reads the sums settles them before.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeAlias, final

import msgspec

from headgate_gateway.calls.events import End, Usage
from headgate_gateway.explain.kept import Record
from headgate_gateway.explain.record import usual_record
from headgate_gateway.feedback import Feedback, count_all
from headgate_gateway.metrics import Metrics, Served
from headgate_gateway.outcome import Outcome, usual_facts
from headgate_gateway.request import Request
from headgate_gateway.telemetry.facts import OK, Facts
from headgate_gateway.telemetry.series import Count, Spread
from headgate_gateway.timeline import Attempt, Timeline

BATCH: Final = 64
"""Requests that wait to be added up, at most. So many of one kind hold the loop for 0.1 ms."""
DIRECT: Final = "direct"
"""Stands for a route where the name is the ModelDeployment's own."""
MOST_KINDS: Final = 4096
"""To keep at hand. They are made again in microseconds."""
OWN: Final = frozenset(
    {
        *("event", "level", "time", "id", "trace_id", "duration_s", "pod", "first_token_s"),
        *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"),
        *("stages_ms", "deadline_left_ms"),
    }
)
"""Facts that each request has of its own, and those that come before them in a line."""

Numbers: TypeAlias = tuple[float, float, Usage, list[float]]
"""s to its end and to its first text, tokens, and s of each stage."""

_TWO: Final = tuple(f"{number:02}" for number in range(100))


def _decimal(number: int) -> str:
    """Write down ten-thousandths, in half of the time that a float takes.

    >>> _decimal(10_306)
    '1.0306'
    """
    return f"{number // 10_000}.{_TWO[number // 100 % 100]}{_TWO[number % 100]}"


def stamp(second: int) -> str:
    """Write down a time, in s since 1970, to the second."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def written(
    *,
    common: str,
    stamp: str,
    now: float,
    id: str,  # noqa: A002 - as in requests
    trace: str,
    timeline: Timeline,
    pod: str,
    usage: Usage,
    ends_at: float,
) -> bytes:
    """Write a request's line of the log.

    Args:
        common: the facts that it shares with others of its kind.
        stamp: `now` to the second.
        now: s since 1970, when it ended.
        id: its own.
        trace: id of its trace.
        timeline: with its stages, its first text and its end.
        pod: that gave the answer.
        usage: of the answer.
        ends_at: s on the event loop's clock, its deadline.
    """
    started, ended, first_text = timeline.started, timeline.ended, timeline.first_text
    assert ended is not None and first_text is not None  # noqa: PT018, S101 - it is usual
    whole, us = int(1e4 * (ended - started)), int(1e6 * (now - int(now)))
    more = ""
    if usage.cached_tokens is not None:
        more = f'"cached_tokens":{usage.cached_tokens},'
    if usage.reasoning_tokens is not None:
        more += f'"reasoning_tokens":{usage.reasoning_tokens},'
    return (
        f'{{"event":"request","level":"info","time":"{stamp}'
        f'.{_TWO[us // 10_000]}{_TWO[us // 100 % 100]}{_TWO[us % 100]}Z","id":"{id}",'
        f'"trace_id":"{trace}",{common},"duration_s":{_decimal(whole)},'
        f'"pod":"{pod}","first_token_s":{_decimal(int(1e4 * (first_text - started)))},'
        f'"input_tokens":{usage.input_tokens},"output_tokens":{usage.output_tokens},{more}'
        f'"stages_ms":{{{timeline.listed()}}},'
        f'"deadline_left_ms":{int(1000 * (ends_at - ended))}}}\n'
    ).encode()


@final
@dataclass(slots=True, eq=False)
class Kind:
    """Requests that went the same way."""

    names: tuple[str, str, str]
    """Namespace, model, cohort."""
    common: str
    """The facts that they share, as members of a JSON object."""
    steps: tuple[str, ...]
    """Names of the stages that they may come to."""
    answers: Count
    attempts: Count
    stages: tuple[Spread, ...]
    served: Served
    waiting: list[Numbers] = field(default_factory=list)


@final
class Usual:
    """Tells of them."""

    def __init__(self, metrics: Metrics, feedback: Feedback) -> None:
        self._metrics = metrics
        self._feedback = feedback
        self._kinds: dict[tuple[object, ...], Kind] = {}
        self._waiting: list[Kind] = []  # have numbers that wait; one for each of them
        self._second = 0  # since 1970
        self._stamp = ""  # of it
        metrics.settle = feedback.settle = self.settle

    def tell(self, request: Request, end: End, outcome: Outcome) -> tuple[bytes, Record]:
        """Note a request's numbers, and write its line of the log and what is kept of it.

        Args:
            request: one of which there is nothing else to tell.
            end: of its answer.
            outcome: its own.
        """
        timeline, usage = request.timeline, end.usage
        started, ended, first_text = timeline.started, timeline.ended, timeline.first_text
        assert ended is not None and first_text is not None  # noqa: PT018, S101 - it is usual
        (attempt,) = timeline.attempts
        credential, model, asked = request.credential, request.model, request.asked
        identity, cohort = model.identity, attempt.cohort
        key = (
            credential.tenant.body.tenant,
            credential.key.name,
            credential.key.user,
            identity.namespace,
            identity.name,
            model.body.public_name,
            cohort.name,
            cohort.variant,
            None if request.route is None else request.route.identity.name,
            request.rule.name,
            request.head.path,
            asked.model,
            asked.streams,
            usage.estimated,
            end.finish_reason,
            outcome.idempotency,
            timeline.names,
        )
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._make(request, attempt, usual_facts(request, outcome))
        first = first_text - started
        self._note(kind, (int(1e4 * (ended - started)) / 1e4, first, usage, timeline.seconds))
        now = request.now + ended - started
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = stamp(second)
        line = written(
            common=kind.common,
            stamp=self._stamp,
            now=now,
            id=request.id,
            trace=request.trace.hex,
            timeline=timeline,
            pod=attempt.pod,
            usage=usage,
            ends_at=request.deadline.ends_at,
        )
        kept = usual_record(
            request, outcome.watch, usage, common=kind.common, names=kind.steps, now=now
        )
        return line, kept

    def _make(self, request: Request, attempt: Attempt, facts: Facts) -> Kind:
        if len(self._kinds) >= MOST_KINDS:
            self._kinds.clear()  # those whose numbers wait are known as well where they wait
        metrics, cohort = self._metrics, attempt.cohort
        told = msgspec.to_builtins(facts)
        common = msgspec.json.encode({name: told[name] for name in told if name not in OWN})
        identity = request.model.identity
        labels = (identity.namespace, identity.name, cohort.variant)
        asked, public = request.asked.model, request.model.body.public_name
        return Kind(
            (identity.namespace, identity.name, cohort.name),
            common[1:-1].decode(),
            request.timeline.names,
            metrics.requests.of(str(facts.status), ""),
            metrics.attempts.of(*labels, OK),
            tuple(map(metrics.stage_seconds.of, request.timeline.names)),
            metrics.served((*labels, facts.route or DIRECT, facts.operation, asked, public)),
        )

    def _note(self, kind: Kind, numbers: Numbers) -> None:
        kind.waiting.append(numbers)
        self._waiting.append(kind)
        if len(self._waiting) >= BATCH:  # make room, one kind at a time
            self._add_up(self._waiting[0])
            self._waiting = [kind for kind in self._waiting if kind.waiting]

    def settle(self) -> None:
        """Add up what waits."""
        waiting, self._waiting = self._waiting, []
        for kind in waiting:
            if kind.waiting:
                self._add_up(kind)

    def _add_up(self, kind: Kind) -> None:
        seconds, firsts, usages, stages = zip(*kind.waiting, strict=True)
        kind.waiting.clear()
        kind.answers.add(len(seconds))
        kind.attempts.add(len(seconds))
        for spread, values in zip(kind.stages, zip(*stages, strict=True), strict=True):
            spread.observe_all(values)
        served, genai = kind.served, kind.served.genai
        served.input.add(sum(usage.input_tokens for usage in usages))
        served.output.add(sum(usage.output_tokens for usage in usages))
        genai.add_usages(usages)
        paces = [
            (whole - first) / (usage.output_tokens - 1)
            for whole, first, usage in zip(seconds, firsts, usages, strict=True)
            if usage.output_tokens > 1
        ]
        for spread in (served.seconds, genai.duration):
            spread.observe_all(seconds)
        for spread in (served.first_token, genai.first):
            spread.observe_all(firsts)
        for spread in (served.per_token, genai.per_token):
            spread.observe_all(paces)
        count_all(self._feedback.of(*kind.names), firsts, usages)
