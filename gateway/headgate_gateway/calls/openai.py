"""`trtllm-serve`, and whoever else speaks OpenAI's dialect.

The client's own body goes on, byte for byte but for what is ours to say: the server's name of the
model, that it streams and counts, and how much it may generate. It is always asked to stream, even
for a plain answer: only streams can be cancelled.
"""

import re
from typing import Final

import msgspec
from msgspec import Raw

from headgate_gateway.calls.adapter import Adapter, Reader, Task, post
from headgate_gateway.calls.events import Failed
from headgate_gateway.calls.failures import OVERLOADED, REFUSED, REPORTED, failure
from headgate_gateway.calls.filters import in_form
from headgate_gateway.calls.openai_embedding import OpenAIEmbeddingReader
from headgate_gateway.calls.openai_stream import OpenAIReader
from headgate_policy.neutral import neutral

DROPPED: Final = frozenset(
    {
        "function_call",
        "functions",
        "max_completion_tokens",
        "metadata",
        "modalities",
        "parallel_tool_calls",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Labels, and what asks for nothing that is not so anyway. `trtllm-serve` refuses what it does not
know, and knows other fields in every release."""
COUNTED: Final = Raw(b'{"include_usage":true}')
TRUE: Final = Raw(b"true")
AUTO: Final = Raw(b'"auto"')
PACKED: Final = Raw(b'"base64"')
REFUSES: Final = frozenset({400, 413, 422})
_BRACKETED: Final = re.compile(rb"\[(?:\\?/)?[A-Za-z]")
"""JSON may write a slash as `\\/`."""

_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.encode


class OpenAI(Adapter):
    """See `Adapter`."""

    def request(
        self,
        task: Task,
        *,
        call_id: str,
        host: str,
        served_model: str,
        left_ms: int,
        headers: bytes,
    ) -> bytes:
        fields = {
            name: value
            for name, value in _FIELDS(task.body).items()
            if name not in DROPPED and bytes(value) != b"null"
        }
        fields["model"] = Raw(_encode(served_model))
        if task.endpoint == "embeddings":
            fields["encoding_format"] = PACKED
        else:
            fields["stream"], fields["stream_options"] = TRUE, COUNTED
            fields["max_tokens"] = Raw(_encode(task.sampling.max_tokens))
            for name, changed in task.changed.items():
                fields[name] = Raw(_encode(changed))
        if "tools" in fields:
            fields.setdefault("tool_choice", AUTO)  # their default is none
        for name in ("messages", "tools"):
            if name in fields:
                fields[name] = _neutral(fields[name])
        named = b"%sx-request-id: %s\r\nx-request-timeout-ms: %d\r\n" % (
            headers,
            call_id.encode(),
            left_ms,
        )
        return post(f"/v1/{task.endpoint}", host, named, _encode(fields))

    def stop(self, *, call_id: str, host: str, served_model: str) -> None:
        """It sees by itself that the caller has gone."""

    def reader(self, task: Task) -> Reader:
        if task.endpoint == "embeddings":
            return OpenAIEmbeddingReader(task)
        return in_form(OpenAIReader(task), task.form, in_text=False)

    def failure(self, said: str, status: int) -> Failed:
        if status == 429:
            return OVERLOADED
        found = failure(said, status)
        return REFUSED if status in REFUSES and found is REPORTED else found


def _may_hold_marks(value: bytes) -> bool:
    """Say quickly of most lists that no text in them has what a mark begins with."""
    if b"<" in value or b"\\u" in value:
        return True
    bracket = value.find(b"[", 1)  # the first one is the list's own
    return bracket > 0 and _BRACKETED.search(value, bracket) is not None


def _neutral(value: Raw) -> Raw:
    """Take the power out of special tokens: the server's template would believe them."""
    if not _may_hold_marks(bytes(value)):
        return value
    told = msgspec.json.decode(value)
    safe = neutral(told)
    return value if safe == told else Raw(_encode(safe))


OPENAI: Final = OpenAI()
