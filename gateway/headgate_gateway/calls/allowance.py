"""Tokens and calls that one request may use, whatever its stages.

A call is granted no more than is left: what its model reads and the most that it may write are
taken when it begins, and what it did not use is given back at its end. So stages, verifiers,
retries and hedges together stay within what the tenant's limits say, however they overlap.
"""

from typing import Final

from headgate_api.snapshot import RequestLimits
from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.events import Usage
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.values import replaced

SPENT: Final = frozenset({Code.TOKEN_BUDGET_EXCEEDED, Code.CALL_BUDGET_EXCEEDED})
"""Why a call is not made where the allowance does not suffice."""


class Allowance:
    """What is left of it."""

    __slots__ = ("calls", "limits", "tokens")

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.tokens = limits.max_total_tokens
        self.calls = limits.max_calls

    @property
    def used(self) -> int:
        """Tokens that are used, or granted to calls that have not ended."""
        return (self.limits.max_total_tokens or 0) - (self.tokens or 0)

    def refuses(self, task: Task) -> Refusal | None:
        """Find out whether a call may be made. It needs room for one token of an answer."""
        if self.calls is not None and self.calls < 1:
            most = self.limits.max_calls
            sentence = f"One request may cause {most} calls of models here, and this one has."
            return Refusal(Code.CALL_BUDGET_EXCEEDED, 429, sentence)
        if self.tokens is not None and self.tokens <= task.input_tokens:
            sentence = (
                f"One request may use {self.limits.max_total_tokens} tokens here. This one has "
                f"used {self.used}, and its next call would read {task.input_tokens} and write "
                "more."
            )
            return Refusal(Code.TOKEN_BUDGET_EXCEEDED, 429, sentence)
        return None

    def covers(self, task: Task) -> bool:
        """Say whether there is room for a call, and for the longest answer that it may give."""
        if self.refuses(task) is not None:
            return False
        return self.tokens is None or self.tokens >= task.input_tokens + task.sampling.max_tokens

    def grant(self, task: Task) -> Task:
        """Take what a call may use, and return the call with no more than that."""
        if self.calls is not None:
            self.calls -= 1
        if self.tokens is None:
            return task
        room = self.tokens - task.input_tokens
        if room < task.sampling.max_tokens:
            sampling = replaced(task.sampling, max_tokens=room)
            task = replaced(task, sampling=sampling)
        self.tokens = room - task.sampling.max_tokens
        return task

    def settle(self, task: Task, granted: int, usage: Usage, *, asked: bool) -> None:
        """Give back what a call did not use.

        Args:
            task: the call.
            granted: tokens that it could write.
            usage: what it has cost.
            asked: it counts as a call.
        """
        if not asked and self.calls is not None:
            self.calls += 1
        if self.tokens is None:
            return
        # Its guess of what it has read is no better than ours.
        read = task.input_tokens if usage.estimated else usage.input_tokens
        self.tokens += task.input_tokens + granted - read - usage.output_tokens
