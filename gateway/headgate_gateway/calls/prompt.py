"""Stage `context`: the conversation as the one text that the model reads, and how to go on."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Final

import structlog

from headgate_gateway.calls.adapter import Sampling, Task
from headgate_gateway.edge.chat_request import ChatRequest, Message
from headgate_gateway.refusals import PASS, Code, Refusal, Verdict
from headgate_gateway.request import Request
from headgate_policy.chat import COMPILED, ConversationRefused, TemplateInvalid, chat_template

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
        most = request.model.body.max_context_tokens
        limit = request.chat.limit
        if most is not None and limit is not None and limit > most:
            given = "max_tokens" if request.chat.max_completion_tokens is None else None
            sentence = f"This model's context has {most} tokens; more were asked for."
            param = given or "max_completion_tokens"
            return Refusal(Code.CONTEXT_LENGTH_EXCEEDED, 400, sentence, param)
        # Compiling takes tens of milliseconds, and so may a long conversation.
        if len(request.body) <= SHORT and request.model.body.chat_template in self._compiled:
            return self._write(request)
        return asyncio.to_thread(self._write, request)

    def _write(self, request: Request) -> Verdict:
        body = request.model.body
        messages = [_plain(message) for message in request.chat.messages]
        try:
            template = chat_template(body.chat_template)
            if len(self._compiled) >= COMPILED:
                self._compiled.clear()  # of those used since then, none has been dropped
            self._compiled.add(body.chat_template)
            prompt = template.prompt(messages, now=datetime.fromtimestamp(request.now, UTC))
        except ConversationRefused as refused:
            return Refusal(Code.INVALID_PROMPT, 400, str(refused), "messages")
        except TemplateInvalid as error:
            log.warning("chat template failed", model=request.model.identity.name, error=str(error))
            return BROKEN
        request.task = Task(
            endpoint="chat/completions",
            prompt=prompt,
            sampling=_sampling(request.chat, self._most(body.max_context_tokens)),
            body=request.body,
        )
        return PASS

    def _most(self, context: int | None) -> int:
        return self.default_max_tokens if context is None else min(self.default_max_tokens, context)


def _plain(message: Message) -> dict[str, object]:
    """What templates know of a message. `developer` is the new word for `system`."""
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, object] = {"role": role, "content": message.text}
    if message.name is not None:
        plain["name"] = message.name
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": call.type,
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    return plain


def _sampling(chat: ChatRequest, default_max_tokens: int) -> Sampling:
    return Sampling(
        max_tokens=chat.limit or default_max_tokens,
        temperature=chat.temperature,
        top_p=chat.top_p,
        frequency_penalty=chat.frequency_penalty,
        presence_penalty=chat.presence_penalty,
        # Theirs is signed, the tensor is not.
        seed=None if chat.seed is None else chat.seed % 2**64,
        stop=chat.stop_words,
    )
