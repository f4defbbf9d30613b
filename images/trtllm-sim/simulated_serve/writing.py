"""Answers in the dialect of `trtllm-serve`: whole ones, and the events of streams."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from simulated_llm.answer import Answer
from simulated_serve.parts import Call, Part, Words, between, parts
from simulated_serve.questions import Asked, Chat

LOGPROB: Final = -0.5
"""Of every token."""
FIELDS: Final = {"content": "content", "reasoning": "reasoning_content"}
DONE: Final = b"data: [DONE]\n\n"


def error(message: str, status: int, kind: str) -> dict[str, Any]:
    """Write an error as the server does: flat, without OpenAI's `error` around it."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": status}


@dataclass(slots=True, kw_only=True)
class Writer:
    """One request's answer, token by token or in one piece."""

    id: str
    created: int
    asked: Asked
    answer: Answer
    reasoning: bool
    """Whether the server takes the reasoning out of the text."""
    tools: bool
    """Whether the server takes calls of tools out of the text."""
    _parts: tuple[Part, ...] = field(init=False)

    def __post_init__(self) -> None:
        wanted = isinstance(self.asked, Chat) and self.asked.tools is not None
        self._parts = (
            parts(self.answer.text, reasoning=self.reasoning, tools=self.tools and wanted)
            if isinstance(self.asked, Chat)
            else ()
        )

    def opening(self) -> Iterator[bytes]:
        """Write what comes with the first token, before its text."""
        if isinstance(self.asked, Chat):
            # The space before the end is the server's own.
            yield _event(self._chunk({"role": "assistant"}), before_end=b" ")

    def tokens(self, before: int, sent: int, *, last: bool) -> Iterator[bytes]:
        """Write the events of the tokens after the first `before`, up to `sent` of all."""
        chosen = self._end() if last else {}
        chosen |= self._logprobs(before, sent)
        if not isinstance(self.asked, Chat):
            text = self.answer.piece(before, sent)
            choice = {"index": 0, "text": text, "finish_reason": None, "stop_reason": None}
            yield _event(self._frame("text_completion", [choice | chosen]))
        else:
            *others, final = self._deltas(before, sent) or [{"content": ""}]
            for delta in others:
                yield _event(self._chunk(delta))
            yield _event(self._chunk(final, chosen))

    def closing(self, sent: int) -> Iterator[bytes]:
        """Write what comes after the last token."""
        if self.asked.counted:
            kind = "chat.completion.chunk" if isinstance(self.asked, Chat) else "text_completion"
            yield _event(self._frame(kind, []) | {"usage": self.usage(sent)})
        yield DONE

    def whole(self, sent: int) -> dict[str, Any]:
        """Write the answer in one piece."""
        usage = {"usage": self.usage(sent)}
        if not isinstance(self.asked, Chat):
            choice = {"index": 0, "text": self.answer.text, "logprobs": None, **self._end()}
            return self._frame("text_completion", [choice]) | usage
        message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": ""}
        message["tool_calls"] = []
        if self.asked.named is not None:
            message["tool_calls"].append(_whole_call(0, self.asked.named, self.answer.text))
        else:
            for part in self._parts:
                if isinstance(part, Call):
                    call = _whole_call(part.index, part.name, part.arguments)
                    message["tool_calls"].append(call)
                else:
                    message[FIELDS[part.kind]] += self.answer.text[part.start : part.end]
        choice = {"index": 0, "message": message, "logprobs": None, **self._end()}
        if self.asked.logprobs:
            choice |= self._logprobs(0, sent)
        return self._frame("chat.completion", [choice]) | usage

    def usage(self, sent: int) -> dict[str, Any]:
        read = self.answer.input_tokens
        return {
            "prompt_tokens": read,
            "total_tokens": read + sent,
            "completion_tokens": sent,
            "prompt_tokens_details": {"cached_tokens": self.answer.cached_tokens},
        }

    def _deltas(self, before: int, sent: int) -> list[dict[str, Any]]:
        assert isinstance(self.asked, Chat)  # noqa: S101 - of the caller
        text = self.answer.text
        if self.asked.named is not None:
            said = {"name": self.asked.named, "arguments": self.answer.piece(before, sent)}
            return [{"tool_calls": [{"index": 0, "type": "function", "function": said}]}]
        deltas: list[dict[str, Any]] = []
        start, end = len(self.answer.upto(before)), len(self.answer.upto(sent))
        for part in between(self._parts, start, end):
            if isinstance(part, Words):
                deltas.append({FIELDS[part.kind]: text[part.start : part.end]})
            else:
                # The name first, and the arguments after it.
                head = _whole_call(part.index, part.name, "") | {"index": part.index}
                tail = {"index": part.index, "function": {"arguments": part.arguments}}
                deltas += [{"tool_calls": [head]}, {"tool_calls": [tail]}]
        return deltas

    def _end(self) -> dict[str, Any]:
        called = any(isinstance(part, Call) for part in self._parts)
        reason = self.answer.finish_reason
        told = "tool_calls" if called and reason == "stop" else reason
        return {"finish_reason": told, "stop_reason": self.answer.stop_reason}

    def _logprobs(self, before: int, sent: int) -> dict[str, Any]:
        if not isinstance(self.asked, Chat) or not self.asked.logprobs or before == sent:
            return {}
        return {"logprobs": {"content": [self._logprob(each) for each in range(before, sent)]}}

    def _logprob(self, before: int) -> dict[str, Any]:
        token = self.answer.piece(before, before + 1)
        spelt = list(token.encode("utf-8", "replace"))
        return {"token": token, "logprob": LOGPROB, "bytes": spelt, "top_logprobs": []}

    def _chunk(self, delta: dict[str, Any], more: dict[str, Any] | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, **(more or {})}
        return self._frame("chat.completion.chunk", [_present(choice)])

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.asked.model,
            "choices": choices,
        }


def _whole_call(index: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{index}", "type": "function", "function": function}


def _present(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


def _event(said: dict[str, Any], *, before_end: bytes = b"") -> bytes:
    return b"data: %s%s\n\n" % (msgspec.json.encode(said), before_end)
