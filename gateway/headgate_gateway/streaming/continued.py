"""An answer that goes on at another pod when the one that gives it is lost.

Only who is given a text can do it: the prompt and all that was said so far is a text to go on with.
An OpenAI server that is given a conversation would begin a new answer.
"""

from typing import Final

from headgate_api.snapshot import Cohort
from headgate_gateway.calls.allowance import SPENT
from headgate_gateway.calls.ask import Ask, Backends
from headgate_gateway.calls.attempt import Attempt
from headgate_gateway.calls.call import Call
from headgate_gateway.calls.deadline import TOO_SHORT
from headgate_gateway.calls.events import End, Event, Failed, Text, Usage
from headgate_gateway.calls.failures import NOT_READY
from headgate_gateway.calls.source import Give, Source
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.timeline import Timeline
from headgate_gateway.values import replaced
from headgate_gateway.waking import Signal

NOT_EVEN_BEGUN: Final = frozenset({NOT_READY, TOO_SHORT.refusal})
"""Why nobody went on. What happened to the first pod is what the client is told."""


class Continued(Source):
    """See `Source`. Goes on once, with the same revision, where the retry policy has a try left."""

    def __init__(self, backends: Backends, ask: Ask, timeline: Timeline) -> None:
        self._backends = backends
        self._ask = ask
        self._timeline = timeline
        self._call = Call(backends, ask, timeline)
        self._said: list[str] = []  # before the loss
        self._give: Give | None = None  # who takes text in the moment in which it comes
        self._lost: Failed | None = None  # how the first pod was
        self._spent: Usage | None = None  # on what it said

    @property
    def last(self) -> Attempt | None:
        return self._call.last

    @property
    def cohort(self) -> Cohort | None:
        return self._call.cohort

    @property
    def usage(self) -> Usage:
        """Of both, as if it had been one."""
        before, now = self._spent, self._call.usage
        if before is None:
            return now
        return replaced(
            before,
            output_tokens=before.output_tokens + now.output_tokens,
            estimated=before.estimated or now.estimated,
        )

    def take(self) -> Event | None:
        event = self._call.take()
        if isinstance(event, Text) and self._lost is None:
            self._said.append(event.text)
        elif isinstance(event, Failed):
            return self._failed(event)
        elif isinstance(event, End) and self._spent is not None:
            return End(event.finish_reason, self.usage)
        return event

    def news(self, give: Give | None = None) -> Signal:
        self._give = give
        return self._call.news(None if give is None else self._hand_on)

    def _hand_on(self, text: Text, now: float) -> bool:
        """Note what was said; what is not taken now is noted when it is."""
        assert self._give is not None  # noqa: S101 - else it is not offered any text
        taken = self._give(text, now)
        if taken and self._lost is None:
            self._said.append(text.text)
        return taken

    def stop(self, refusal: Refusal) -> None:
        self._call.stop(refusal)

    def close(self) -> None:
        self._give = None
        self._call.close()

    def _failed(self, failed: Failed) -> Event | None:
        """Go on elsewhere, if that is possible. None: somebody was asked to."""
        if self._lost is not None:
            begun = failed.refusal not in NOT_EVEN_BEGUN and failed.refusal.code not in SPENT
            return failed if begun else self._lost
        lost = self._call.last
        if lost is None or not self._may_go_on(lost, failed):
            return failed
        task, spent = self._ask.task, lost.usage
        prompt = task.prompt + "".join(self._said)
        left = task.sampling.max_tokens - spent.output_tokens
        if left <= 0:
            return End("length", spent)
        self._lost, self._spent = failed, spent
        lost.record.usage = None  # it is told with the answer's
        rest = replaced(
            task,
            input_tokens=task.input_tokens + spent.output_tokens,
            prompt=prompt,
            changed={**task.changed, "prompt": prompt},
            sampling=replaced(task.sampling, max_tokens=left),
        )
        ask = self._ask.elsewhere(lost.cohort, rest, avoid=frozenset({lost.pod}))
        self._call.close()
        self._call = Call(self._backends, ask, self._timeline)
        return self.take()

    def _may_go_on(self, lost: Attempt, failed: Failed) -> bool:
        ask, retries = self._ask, self._ask.retries
        if failed.refusal.code == Code.DEADLINE_EXCEEDED or lost.kind not in retries.retry_on:
            return False
        # What was held, or left out, would be missing from the text to go on with.
        whole = ask.task.form is None and ask.task.guide is None
        converses = lost.cohort.runtime == "trtllm-serve" and ask.task.endpoint != "completions"
        if not self._said or not whole or converses:
            return False
        tries = [a for a in self._timeline.attempts if not a.hedge and a.result != "stale"]
        traffic = self._backends.traffics.of(ask.pool)
        return len(tries) < retries.max_attempts and traffic.may_retry(retries, already=False)
