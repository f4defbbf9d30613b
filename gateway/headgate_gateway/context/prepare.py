"""From what a client asked to the task that a model server gets.

Nothing here knows of a request's way through the gateway: a cascade prepares a task for each model
that it asks. What a request does not need is not done for it: a body with fewer bytes than its
budget has tokens fits, and nothing is counted.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from headgate_api.snapshot import RouteRule
from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.forms import slow, wanted
from headgate_gateway.calls.generation import most_tokens, otherwise, sampling
from headgate_gateway.context.budget import budget, too_long
from headgate_gateway.context.chat import Found, Job, Prepared, write_chat
from headgate_gateway.context.counting import ESTIMATE, Calibrations, Counter
from headgate_gateway.context.tokenizers import Tokenizers
from headgate_gateway.edge.asked import Asked, Generation
from headgate_gateway.edge.body_reader import unsupported
from headgate_gateway.edge.chat_request import ChatRequest, Message
from headgate_gateway.edge.completion_request import CompletionRequest
from headgate_gateway.edge.embedding_request import EmbeddingRequest
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.routing.tables import Model
from headgate_policy.chat import (
    COMPILED,
    ChatTemplate,
    ConversationRefused,
    TemplateInvalid,
    chat_template,
)

log = structlog.get_logger(__name__)

SHORT: Final = 64 * 1024
"""Bytes of a request that the event loop renders itself."""
COUNTED: Final = 1024
"""Bytes of a request whose tokens the event loop counts with a tokenizer: 0.8 ms."""
BROKEN: Final = Refusal(
    Code.INTERNAL_ERROR, 500, "The model's chat template failed on this conversation.", "messages"
)


@dataclass(slots=True)
class Preparation:
    """Prepares requests; what it learns about models is for all of them."""

    default_max_tokens: int
    """Of an answer where neither client nor route says."""
    tokenizers: Tokenizers | None = None
    """None: everything is estimated."""
    calibrations: Calibrations = field(default_factory=Calibrations)
    _compiled: dict[str | None, ChatTemplate] = field(default_factory=dict)

    def prepare(
        self,
        asked: Asked,
        model: Model,
        rule: RouteRule,
        *,
        body: bytes,
        now: float,
        more: tuple[Message, ...] = (),
        counts: bool = False,
    ) -> Found | Awaitable[Found]:
        """Prepare a request for one model. It is awaited where it takes longer than a moment.

        Args:
            asked: the request.
            model: whom to ask.
            rule: the route that leads there.
            body: of the request, as the client sent it.
            now: s since 1970, for templates that tell the date.
            more: messages to end the conversation with, such as a request for a better answer.
            counts: the task is to say how many tokens the model reads.
        """
        limit, context = asked.limit, model.max_context_tokens
        asked_for = None if limit is None else limit[1]
        most = most_tokens(rule.generation, asked_for, self.default_max_tokens)
        if context is not None and most > context:
            if limit is not None:
                sentence = f"This model's context has {context} tokens; more were asked for."
                return Refusal(Code.CONTEXT_LENGTH_EXCEEDED, 400, sentence, limit[0])
            most = context
        if model.texts_alone and isinstance(asked, Generation) and asked.special is not None:
            return unsupported(asked.special)
        answer = None if limit is None else most
        found = budget(
            context, rule.context, 0 if isinstance(asked, EmbeddingRequest) else answer, most
        )
        kept = found is None or found.fits(len(body))
        counted = counts or not kept or rule.context.max_tokens_per_source is not None
        job = Job(
            model=model,
            rule=rule,
            body=body,
            now=now,
            more=more,
            budget=None if kept else found,
            most=most,
            # A tokenizer is loaded when it is asked for: before there is something to count.
            counter=self._counter(model) if counted or model.tokenizer is not None else ESTIMATE,
            counts=counts,
        )
        if not self._at_once(asked, job, counted=counted):
            return asyncio.to_thread(self._do, asked, job)
        return self._chat(asked, job) if isinstance(asked, ChatRequest) else self._do(asked, job)

    def _counter(self, model: Model) -> Counter:
        named = model.tokenizer
        if named is not None and self.tokenizers is not None:
            own = self.tokenizers.find(named)
            if own is not None:
                return own
        return self.calibrations.counter(model.pool)

    def _at_once(self, asked: Asked, job: Job, *, counted: bool) -> bool:
        """Say whether the event loop may do it.

        Compiling a template takes tens of milliseconds, and so may a long conversation, a schema or
        a tokenizer.
        """
        if len(job.body) > (COUNTED if counted and job.counter.exact else SHORT):
            return not isinstance(asked, ChatRequest) and not counted
        if not isinstance(asked, ChatRequest):
            return True
        if (asked.tools is not None or asked.response_format is not None) and slow(asked):
            return False
        return job.model.template in self._compiled

    def _do(self, asked: Asked, job: Job) -> Found:
        match asked:
            case ChatRequest():
                return self._chat(asked, job)
            case CompletionRequest():
                return _completion(asked, job)
            case EmbeddingRequest():
                return _embedding(asked, job)
            case _:
                raise TypeError(type(asked))

    def _chat(self, chat: ChatRequest, job: Job) -> Found:
        source = job.model.template
        try:
            template = self._compiled.get(source)
            if template is None:
                template = chat_template(source)
                if len(self._compiled) >= COMPILED:
                    self._compiled.clear()
                self._compiled[source] = template
            wants = wanted(chat, template.dialect, in_text=job.model.texts_alone)
            if isinstance(wants, Refusal):
                return wants
            return write_chat(chat, job, template, wants)
        except ConversationRefused as refused:
            return Refusal(Code.INVALID_PROMPT, 400, str(refused), "messages")
        except TemplateInvalid as error:
            log.warning("chat template failed", model=job.model.identity.name, error=str(error))
            return BROKEN


def _completion(asked: CompletionRequest, job: Job) -> Found:
    if (no := _too_many(job, (asked.text,), "prompt")) is not None:
        return no
    settled = sampling(asked, job.rule.generation, job.most)
    return Prepared(
        Task(
            endpoint="completions",
            input_tokens=job.counter.count(asked.text) if job.counts else 0,
            prompt=asked.text,
            sampling=settled,
            body=job.body,
            changed=otherwise(asked, settled),
        )
    )


def _embedding(asked: EmbeddingRequest, job: Job) -> Found:
    if (no := _too_many(job, asked.inputs, "input")) is not None:
        return no
    return Prepared(
        Task(
            endpoint="embeddings",
            input_tokens=sum(map(job.counter.count, asked.inputs)) if job.counts else 0,
            inputs=asked.inputs,
            dimensions=asked.dimensions,
            body=job.body,
        )
    )


def _too_many(job: Job, texts: Iterable[str], what: str) -> Refusal | None:
    """Find out whether a text has too many tokens, each by itself."""
    if job.budget is None:
        return None
    count, exact = job.counter
    tokens = max(map(count, texts))
    if not job.budget.refuses(tokens, exact=exact):
        return None
    return too_long(job.budget, tokens, exact=exact, what=what)
