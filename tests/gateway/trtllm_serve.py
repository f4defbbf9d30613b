"""`trtllm-serve` as far as a gateway sees it: its dialect, its metrics, its errors.

It keeps to `tensorrt_llm/serve/openai_protocol.py`: fields that it does not know are refused,
events end with a space before the line end, and what a chunk has no value for is left out.
"""

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any, Final

from .upstream import Connection

KNOWN: Final = {
    "chat/completions": {
        *("messages", "model", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs"),
        *("max_completion_tokens", "max_tokens", "n", "presence_penalty", "response_format"),
        *("seed", "stop", "stream", "stream_options", "temperature", "top_p", "tools"),
        *("tool_choice", "user", "reasoning_effort"),
    },
    "completions": {
        *("model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs"),
        *("max_tokens", "n", "presence_penalty", "seed", "stop", "stream", "stream_options"),
        *("suffix", "temperature", "top_p", "user"),
    },
    "embeddings": {"model", "input", "encoding_format", "dimensions", "user"},
}
METRICS: Final = """\
# TYPE trtllm_num_requests_waiting gauge
trtllm_num_requests_waiting{{model_name="{model}",engine_type="trtllm"}} {waiting}
# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{{model_name="{model}",engine_type="trtllm"}} {running}
# TYPE trtllm_kv_cache_utilization gauge
trtllm_kv_cache_utilization{{model_name="{model}",engine_type="trtllm"}} 0.25
# TYPE trtllm_request_success_total counter
trtllm_request_success_total{{model_name="{model}",finished_reason="stop"}} {done}
"""
USAGE: Final = {
    "prompt_tokens": 11,
    "total_tokens": 14,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 8},
}


class TrtllmServe:
    """A script for `Upstream`. `deltas` are those of one answer, in order."""

    def __init__(
        self,
        *deltas: dict[str, Any],
        finish: str | None = "stop",
        usage: dict[str, Any] | None = USAGE,
        vectors: Sequence[Sequence[float]] = (),
    ) -> None:
        self.deltas = deltas
        self.finish = finish
        self.usage = usage
        self.vectors = vectors
        self.seen: list[dict[str, Any]] = []
        self.heads: list[str] = []

    async def __call__(self, connection: Connection) -> None:
        method, path, _ = connection.head.split("\r\n")[0].split(" ")
        if method == "GET":
            await self._get(connection, path)
            return
        endpoint = path.removeprefix("/v1/")
        self.seen.append(connection.fields)
        self.heads.append(connection.head)
        unknown = connection.fields.keys() - KNOWN[endpoint]
        if unknown:
            await self.refuse(connection, 400, f"Extra inputs are not permitted: {unknown}")
        elif endpoint == "embeddings":
            await self._embed(connection)
        else:
            await self._stream(connection, endpoint)

    async def refuse(self, connection: Connection, status: int, message: str) -> None:
        body = {"object": "error", "message": message, "type": "BadRequestError", "code": status}
        await connection.answer(status, json.dumps(body).encode())

    async def _stream(self, connection: Connection, endpoint: str) -> None:
        chat = endpoint == "chat/completions"
        assert connection.fields["stream"] is True
        assert {"include_usage": True} == connection.fields["stream_options"]
        await connection.begin()
        if chat:
            await self._chunk(connection, {"index": 0, "delta": {"role": "assistant"}})
        for delta in self.deltas:
            logprobs = {"logprobs": delta["logprobs"]} if "logprobs" in delta else {}
            body = {k: v for k, v in delta.items() if k != "logprobs"}
            told = {"delta": body} if chat else body
            await self._chunk(connection, {"index": 0, **told, **logprobs})
        last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        if self.finish is not None:
            await self._chunk(connection, {"index": 0, **last, "finish_reason": self.finish})
        if self.usage is not None:
            await self._chunk(connection, None, usage=self.usage)
        await connection.chunk(b"data: [DONE]\n\n")
        await connection.end()

    async def _chunk(
        self, connection: Connection, choice: dict[str, Any] | None, **more: Any
    ) -> None:
        body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        choices = [choice] if choice is not None else []
        data = json.dumps({**body, "choices": choices, **more})
        await connection.chunk(f"data: {data} \n\n".encode())

    async def _embed(self, connection: Connection) -> None:
        assert "base64" == connection.fields["encoding_format"]
        rows = [
            {
                "index": index,
                "object": "embedding",
                "embedding": base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode(),
            }
            for index, v in enumerate(self.vectors)
        ]
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        body = {"id": "embd-1", "object": "list", "data": rows, "model": "m", "usage": usage}
        await connection.answer(200, json.dumps(body).encode())

    async def _get(self, connection: Connection, path: str) -> None:
        if path == "/prometheus/metrics":
            told = METRICS.format(model="m", waiting=0, running=1, done=len(self.seen))
            await connection.answer(200, told.encode())
        else:
            await connection.answer(200 if path == "/health" else 404, b"")
