"""Stage `context`: from what the client asked to the task that a model server gets."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Final

import structlog

from headgate_gateway.calls.adapter import Sampling, Task
from headgate_gateway.calls.conversation import plain
from headgate_gateway.calls.forms import Wanted, slow, wanted
from headgate_gateway.edge.asked import Asked, Generation, unsupported
from headgate_gateway.edge.chat_request import ChatRequest
from headgate_gateway.edge.completion_request import CompletionRequest
from headgate_gateway.edge.embedding_request import EmbeddingRequest
from headgate_gateway.refusals import PASS, Code, Refusal, Verdict
from headgate_gateway.request import Request
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
BROKEN: Final = Refusal(
    Code.INTERNAL_ERROR, 500, "The model's chat template failed on this conversation.", "messages"
)


@dataclass(slots=True)
class WritePrompt:
    name: ClassVar = "context"
    undecided: ClassVar = Refusal(
        Code.STAGE_UNDECIDED, 503, "The prompt took too long to write.", retry_after=1
    )
    budget: ClassVar = 5.0
    default_max_tokens: int
    _compiled: set[str | None] = field(default_factory=set)  # templates that are compiled

    def decide(self, request: Request) -> Verdict | Awaitable[Verdict]:
        asked = request.asked
        limit = asked.limit
        if (no := _beyond(request.model, asked, limit)) is not None:
            return no
        most = self._most(request.model) if limit is None else limit[1]
        match asked:
            case ChatRequest():
                if self._at_once(request, asked):
                    return self._chat(request, asked, most)
                return asyncio.to_thread(self._chat, request, asked, most)
            case CompletionRequest():
                request.task = Task(
                    endpoint="completions",
                    prompt=asked.text,
                    sampling=_sampling(asked, most),
                    body=request.body,
                )
            case EmbeddingRequest():
                request.task = Task(
                    endpoint="embeddings",
                    inputs=asked.inputs,
                    dimensions=asked.dimensions,
                    body=request.body,
                )
            case _:
                raise TypeError(type(asked))
        return PASS

    def _at_once(self, request: Request, chat: ChatRequest) -> bool:
        """Say whether the event loop may do it.

        Compiling a template takes tens of milliseconds, and so may a long conversation or a schema.
        """
        if (chat.tools is not None or chat.response_format is not None) and slow(chat):
            return False
        return len(request.body) <= SHORT and request.model.body.chat_template in self._compiled

    def _chat(self, request: Request, chat: ChatRequest, most: int) -> Verdict:
        body, in_text = request.model.body, request.model.texts_alone
        try:
            template = chat_template(body.chat_template)
            if len(self._compiled) >= COMPILED:
                self._compiled.clear()  # of those used since then, none has been dropped
            self._compiled.add(body.chat_template)
            wants = wanted(chat, template.dialect, in_text=in_text)
            if isinstance(wants, Refusal):
                return wants
            prompt = _prompt(template, chat, wants, request.now) if in_text else ""
        except ConversationRefused as refused:
            return Refusal(Code.INVALID_PROMPT, 400, str(refused), "messages")
        except TemplateInvalid as error:
            log.warning("chat template failed", model=request.model.identity.name, error=str(error))
            return BROKEN
        request.task = Task(
            endpoint="chat/completions",
            prompt=prompt,
            sampling=_sampling(chat, most),
            guide=wants.guide,
            form=wants.form,
            body=request.body,
        )
        return PASS

    def _most(self, model: Model) -> int:
        context = model.body.max_context_tokens
        return self.default_max_tokens if context is None else min(self.default_max_tokens, context)


def _beyond(model: Model, asked: Asked, limit: tuple[str, int] | None) -> Refusal | None:
    """Find what the model, or the runtime under it, cannot do."""
    context = model.body.max_context_tokens
    if limit is not None and context is not None and limit[1] > context:
        sentence = f"This model's context has {context} tokens; more were asked for."
        return Refusal(Code.CONTEXT_LENGTH_EXCEEDED, 400, sentence, limit[0])
    if model.texts_alone and isinstance(asked, Generation) and asked.special is not None:
        return unsupported(asked.special)
    return None


def _prompt(template: ChatTemplate, chat: ChatRequest, wants: Wanted, now: float) -> str:
    prompt = template.prompt(
        [plain(message) for message in chat.messages],
        tools=wants.tools or None,
        now=datetime.fromtimestamp(now, UTC),
    )
    return prompt if wants.form is None else prompt + wants.form.said


def _sampling(asked: Generation, max_tokens: int) -> Sampling:
    return Sampling(
        max_tokens=max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        # Theirs is signed, the tensor is not.
        seed=None if asked.seed is None else asked.seed % 2**64,
        stop=asked.stop_words,
    )
