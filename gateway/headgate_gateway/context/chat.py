"""Writes a conversation down for one model: its evidence quoted, and short enough."""

from datetime import UTC, datetime
from operator import is_not
from typing import Final, TypeAlias, final

from headgate_api.snapshot import RouteRule
from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.forms import Wanted
from headgate_gateway.calls.generation import otherwise, sampling
from headgate_gateway.context.bodies import with_messages
from headgate_gateway.context.budget import Budget, too_long
from headgate_gateway.context.conversation import plain, turns
from headgate_gateway.context.counting import Counter, tool_texts
from headgate_gateway.context.evidence import (
    INTRODUCTION,
    as_message,
    capped,
    inserted,
    joined,
    quoted,
)
from headgate_gateway.context.fit import Fitted, fit
from headgate_gateway.edge.chat_request import ChatRequest, Message
from headgate_gateway.refusals import Refusal
from headgate_gateway.routing.tables import Model
from headgate_policy.chat import ChatTemplate, ConversationRefused

TRIES: Final = 2
"""What a template adds depends on what it is given, so a second look may be needed."""


@final
class Job:
    """What is known of a request before anything is written."""

    __slots__ = ("body", "budget", "counter", "counts", "model", "more", "most", "now", "rule")

    def __init__(
        self,
        *,
        model: Model,
        rule: RouteRule,
        body: bytes,
        now: float,
        more: tuple[Message, ...],
        budget: Budget | None,
        most: int,
        counter: Counter,
        counts: bool,
    ) -> None:
        self.model = model
        self.rule = rule
        self.body = body
        self.now = now
        self.more = more
        self.budget = budget  # None: there is none, or it is kept for sure
        self.most = most  # tokens of the answer
        self.counter = counter
        self.counts = counts  # the task is to say how much the model reads


@final
class Prepared:
    """A task, and what became of the conversation on the way.

    Args:
        task: for the model server.
        fitted: what was left out. None: nothing.
    """

    __slots__ = ("fitted", "task")

    def __init__(self, task: Task, fitted: Fitted | None = None) -> None:
        self.task = task
        self.fitted = fitted


Found: TypeAlias = Prepared | Refusal


def write_chat(chat: ChatRequest, job: Job, template: ChatTemplate, wants: Wanted) -> Found:
    """Write a conversation down. Raises what `ChatTemplate.prompt` does."""
    if job.budget is None and chat.context is None and not job.more:
        messages = chat.messages
        prompt = written(messages, job, template, wants) if job.model.texts_alone else ""
        return _prepared(
            chat, job, wants, messages=messages, prompt=prompt, most=job.most, body=job.body
        )
    try:
        return _Writer(chat, job, template, wants, apart=True).write()
    except ConversationRefused:
        if not chat.context:
            raise
        return _Writer(chat, job, template, wants, apart=False).write()


def written(messages: list[Message], job: Job, template: ChatTemplate, wants: Wanted) -> str:
    """Write messages down as the one text that a model goes on with."""
    if template.standard:
        prompt = template.of_turns(turns(messages))
    else:
        prompt = template.prompt(
            list(map(plain, messages)),
            tools=wants.tools or None,
            now=datetime.fromtimestamp(job.now, UTC),
        )
    return prompt if wants.form is None else prompt + wants.form.said


def _prepared(
    chat: ChatRequest,
    job: Job,
    wants: Wanted,
    *,
    messages: list[Message],
    prompt: str,
    most: int,
    body: bytes,
    fitted: Fitted | None = None,
) -> Prepared:
    settled = sampling(chat, job.rule.generation, most)
    task = Task(
        endpoint="chat/completions",
        input_tokens=_read(chat, job.counter, messages, prompt) if job.counts else 0,
        prompt=prompt,
        sampling=settled,
        guide=wants.guide,
        form=wants.form,
        body=body,
        changed=otherwise(chat, settled),
        sources=0 if fitted is None else fitted.sources,
    )
    if fitted is not None and not fitted.dropped and not fitted.capped:
        fitted = None
    return Prepared(task, fitted)


def _read(chat: ChatRequest, counter: Counter, messages: list[Message], prompt: str) -> int:
    """Count what the model reads: the prompt, where we write it."""
    if prompt:
        return counter.count(prompt)
    return sum(map(counter.of_message, messages)) + counter.count("".join(tool_texts(chat)))


class _Writer:
    """Writes a conversation that may be too long, or has evidence or messages of ours."""

    def __init__(
        self, chat: ChatRequest, job: Job, template: ChatTemplate, wants: Wanted, *, apart: bool
    ) -> None:
        self._chat = chat
        self._job = job
        self._template = template
        self._wants = wants
        self._place = inserted if apart else joined  # evidence among the messages
        # Only who knows the template can count the whole prompt.
        knows = job.model.texts_alone or job.model.template is not None
        self._exact = job.counter.exact and knows
        evidence, most = chat.context or [], job.rule.context.max_tokens_per_source
        shown = evidence
        if most is not None:
            shown = [capped(piece, most, job.counter.count) for piece in evidence]
        self._capped = sum(map(is_not, evidence, shown))
        self._blocks = [quoted(number, piece) for number, piece in enumerate(shown, 1)]

    def write(self) -> Found:
        chat, job, most = self._chat, self._job, self._job.most
        fitted = Fitted(chat.messages, len(self._blocks))
        if job.budget is not None:
            fitted, tokens, before = self._fit(job.budget)
            if job.budget.refuses(tokens, exact=self._exact):
                return too_long(job.budget, before, exact=self._exact, what="messages")
            context = job.model.max_context_tokens
            if self._exact and chat.limit is None and context is not None:
                most = max(min(most, context - tokens), 1)
        fitted.capped = self._capped
        messages, body = self._assembled(fitted), job.body
        if messages is not chat.messages or chat.context is not None:
            body = with_messages(body, chat.messages, messages)
        prompt = self._prompt(messages) if job.model.texts_alone else ""
        return _prepared(
            chat,
            job,
            self._wants,
            messages=messages,
            prompt=prompt,
            most=most,
            body=body,
            fitted=fitted,
        )

    def _fit(self, budget: Budget) -> tuple[Fitted, int, int]:
        """Bring the conversation down to the budget, as far as the route lets it.

        Returns:
            What is left of it, its tokens as the model reads it, and its tokens before.
        """
        messages, counter, rules = self._chat.messages, self._job.counter, self._job.rule.context
        sizes = list(map(counter.of_message, messages))
        sources = list(map(counter.count, self._blocks))
        fitted = Fitted(messages, len(sources), sum(sizes) + sum(sources))
        tokens = before = self._measured(fitted)
        if before > budget.most and rules.truncate:
            for _ in range(TRIES):
                room = budget.wanted - (tokens - fitted.tokens)
                fitted = fit(
                    messages, sizes, sources, budget=room, rules=rules, count=counter.of_message
                )
                tokens = self._measured(fitted)
                if tokens <= budget.wanted:
                    break
        return fitted, tokens, before

    def _measured(self, fitted: Fitted) -> int:
        """Count what the model reads."""
        counter = self._job.counter
        if self._exact:
            return counter.count(self._prompt(self._assembled(fitted)))
        added = counter.count("".join(tool_texts(self._chat)))
        added += sum(map(counter.of_message, self._job.more))
        if fitted.sources:
            added += counter.count(INTRODUCTION)
        return fitted.tokens + added

    def _assembled(self, fitted: Fitted) -> list[Message]:
        messages = fitted.messages
        if fitted.sources:
            messages = self._place(messages, as_message(self._blocks[: fitted.sources]))
        return [*messages, *self._job.more] if self._job.more else messages

    def _prompt(self, messages: list[Message]) -> str:
        return written(messages, self._job, self._template, self._wants)
