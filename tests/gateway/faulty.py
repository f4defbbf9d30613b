"""Model servers that misbehave, each in one way, in the three dialects."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from .upstream import OK, Connection, Script

WORDS = ("Good", " morning", ".")


def sse(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _llmapi() -> list[bytes]:
    so_far = ["".join(WORDS[: n + 1]) for n in range(3)]
    reasons = ["None", "None", "stop"]
    return [
        sse({"text_output": text, "finish_reason": reason})
        for text, reason in zip(so_far, reasons, strict=True)
    ]


def _ensemble() -> list[bytes]:
    return [
        sse({"text_output": word, "num_input_tokens": 7, "num_output_tokens": n})
        for n, word in enumerate(WORDS, 1)
    ]


def _openai() -> list[bytes]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        return sse({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    usage = sse({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    said = [chunk({"content": word}) for word in WORDS]
    return [*said, chunk({}, "stop") + usage, b"data: [DONE]\n\n"]


DIALECTS = {"triton-llmapi": _llmapi(), "triton-python": _ensemble(), "trtllm-serve": _openai()}
"""An answer of three words, event by event, by runtime."""


def says(*steps: bytes | float | None) -> Script:
    """Send these pieces of an event stream; a number is a pause; None: go on for ever."""

    async def script(connection: Connection) -> None:
        await connection.begin()
        for step in steps:
            if step is None:
                await connection.left()
                return
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                await connection.chunk(step)
        await connection.end()

    return script


async def silent(connection: Connection) -> None:
    await connection.left()


async def resets(connection: Connection) -> None:
    connection.reset()


def breaks(*events: bytes, reset: bool = True) -> Script:
    async def script(connection: Connection) -> None:
        await connection.begin()
        for event in events:
            await connection.chunk(event)
        await asyncio.sleep(0.01)  # else the reset overtakes what was sent
        connection.reset() if reset else connection.close()

    return script


def answers(status: int, body: bytes, *headers: str, length: int | None = None) -> Script:
    """An answer of known length, or of another one than it says."""

    async def script(connection: Connection) -> None:
        lines = [f"HTTP/1.1 {status} X", *headers, f"content-length: {length or len(body)}", "", ""]
        await connection.write("\r\n".join(lines).encode() + body)
        if length is not None:
            await asyncio.sleep(0.01)
            connection.close()

    return script


def drips(body: bytes, seconds: float) -> Script:
    """Byte by byte."""

    async def script(connection: Connection) -> None:
        await connection.begin()
        for i in range(len(body)):
            await connection.chunk(body[i : i + 1])
            await asyncio.sleep(seconds)
        await connection.end()

    return script


def writes(data: bytes, *, close: bool = False) -> Script:
    async def script(connection: Connection) -> None:
        await connection.write(data)
        if close:
            connection.close()
        await connection.left()

    return script


FULL = b'{"error":"Exceeds maximum queue size"}'
FAILED = sse({"error": "no memory"})


def drop_by_drop(event: bytes) -> list[bytes | float]:
    return [step for i in range(len(event)) for step in (event[i : i + 1], 0.05)]


def whole(events: Sequence[bytes]) -> bytes:
    """The bytes of a good answer."""
    return OK + b"".join(b"%x\r\n%s\r\n" % (len(x), x) for x in events) + b"0\r\n\r\n"
