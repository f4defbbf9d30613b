"""The official SDK is the judge, in both of its majors, each in a process of its own."""

import asyncio
import json
import os
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headgate_cluster.sdks import older_openai

from . import sdk_contract
from .conftest import KEY, NAME, TENANT, Running, cohort, model
from .test_structured import CALL, TEMPLATE
from .upstream import Connection, saying

Start = Callable[..., Awaitable[Running]]
VECTORS = {"a": (3.0, 4.0, 0.0), "b": (0.5, 0.25, 1.0)}


async def script(connection: Connection) -> None:
    """Answer as the prompt says."""
    if " /v2/models/tensorrt_llm/infer " in connection.head:
        await embed(connection)
        return
    prompt = connection.fields["text_input"]
    if "[call]" in prompt:
        await saying(CALL)(connection)
    elif "[json]" in prompt:
        await saying('{"n":', " 5}")(connection)
    elif "[busy]" in prompt:
        await connection.answer(400, b'{"error":"Exceeds maximum queue size"}')
    elif "[cut]" in prompt:
        await connection.begin()
        await connection.event(text_output="Good", finish_reason="None")
        connection.reset()
    else:
        await saying("Good", " day.")(connection)


async def embed(connection: Connection) -> None:
    """Answer as Triton does that is asked for binary tensors."""
    [texts] = connection.fields["inputs"]
    assert {"binary_data_output": True} == connection.fields["parameters"]
    vectors = b"".join(struct.pack("<3f", *VECTORS[text]) for text in texts["data"])
    counts = struct.pack(f"<{len(texts['data'])}i", *(1 for _ in texts["data"]))
    named = [("embedding", "FP32", vectors), ("num_input_tokens", "INT32", counts)]
    outputs: list[dict[str, Any]] = [
        {
            "name": name,
            "datatype": kind,
            "shape": [len(texts["data"]), 1],
            "parameters": {"binary_data_size": len(tensor)},
        }
        for name, kind, tensor in named
    ]
    head = json.dumps({"model_name": "m", "outputs": outputs}).encode()
    await connection.answer(200, head + vectors + counts)


@pytest.mark.parametrize("major", ["2", "3"])
async def test_both_majors_of_the_sdk_understand_every_answer(start: Start, major: str) -> None:
    running = await start(script, entries=(model(cohort(), chat_template=TEMPLATE), TENANT))
    environment = dict(os.environ)
    if major == "2":
        environment["PYTHONPATH"] = str(older_openai())
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        sdk_contract.__file__,
        running.url,
        KEY,
        NAME,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, error = await process.communicate()

    assert f"{major} {len(sdk_contract.CHECKS)}" == said.decode().strip(), error.decode()
