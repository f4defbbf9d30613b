"""Whatever ends a request frees its slot in a real Triton server, by that server's own metrics.

The simulated model has one slot, and reads the long prompt so slowly that nobody waits for its
first token: what frees the slot is the gateway.
"""

import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import openai
import pytest
import yaml
from openai import AsyncOpenAI

from headgate_api.snapshot import DeadlineBody, HedgingBody
from headgate_cluster.files import TREE
from headgate_cluster.triton import Triton
from headgate_gateway.routing.pods import Pod, Pool

from .clients import relaxed, serving
from .conftest import COHORT_NAME, KEY, NAME, Running

pytestmark = pytest.mark.triton
Start = Callable[..., Awaitable[Running]]
MODELS = TREE / "images" / "triton-sim" / "models"
ONE_SLOT = {"slots": 1, "prefill_tokens_per_s": 1000.0, "step_ms": 200.0}
SHORT: Any = [{"role": "user", "content": "Go."}]
MEDIUM: Any = [{"role": "user", "content": "Tell me about the harbour. " * 1000}]
LONG: Any = [{"role": "user", "content": "Tell me about the harbour. " * 16_000}]
POOL = Pool("chat", "uid-llama")
HEDGED = HedgingBody(seconds=0.05, max_percent=20)
PATIENT = DeadlineBody(first_segment=600.0)


@dataclass(frozen=True, slots=True)
class Dialect:
    runtime: str
    folder: str
    model: str


DIALECTS = (
    Dialect("triton-llmapi", "llmapi", "tensorrt_llm"),
    Dialect("triton-python", "python", "ensemble"),
)


def _slowed(models: Path, dialect: Dialect) -> None:
    """Give the model of this repository one slow slot."""
    folder = models / dialect.folder / dialect.model
    if dialect.folder == "llmapi":
        path = folder / "1" / "model.yaml"
        told = yaml.safe_load(path.read_text()) | {"simulation": ONE_SLOT}
        path.write_text(yaml.safe_dump(told))
        return
    value = json.dumps(json.dumps(ONE_SLOT))
    with (folder / "config.pbtxt").open("a") as file:
        file.write(f'parameters {{ key: "simulation" value {{ string_value: {value} }} }}\n')


@pytest.fixture(scope="module", params=DIALECTS, ids=lambda dialect: dialect.runtime)
def tritons(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Dialect, Triton, Triton]]:
    """One that is slow, and one that is not."""
    dialect: Dialect = request.param
    models = tmp_path_factory.mktemp("slow") / "models"
    shutil.copytree(MODELS, models)
    _slowed(models, dialect)
    arguments = ["--model-control-mode=explicit", f"--load-model={dialect.model}"]
    with ExitStack() as stack:
        slow = stack.enter_context(Triton(models / dialect.folder, arguments))
        fast = stack.enter_context(Triton(MODELS / dialect.folder, arguments))
        yield dialect, slow, fast


@dataclass(slots=True)
class Ground:
    """A gateway before the slow server, or before both."""

    running: Running
    ai: AsyncOpenAI
    http: aiohttp.ClientSession = field(repr=False)
    slow: Triton

    async def gauges(self) -> dict[str, int]:
        """What the slow model works on, and what waits there, by its own metrics."""
        async with self.http.get(f"http://127.0.0.1:{self.slow.metrics}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        wanted = ("scheduled", "waiting")
        return {
            kind: int(float(line.rsplit(" ", 1)[1]))
            for kind in wanted
            for line in lines
            if f'request_type="{kind}"' in line
        }

    async def until(self, scheduled: int, waiting: int) -> None:
        with anyio.fail_after(20):
            while {"scheduled": scheduled, "waiting": waiting} != await self.gauges():  # noqa: ASYNC110
                await anyio.sleep(0.02)

    def ask(self, messages: Any, **more: Any) -> Awaitable[Any]:
        return self.ai.chat.completions.create(
            model=NAME, messages=messages, max_tokens=100_000, **more
        )

    def cancellations(self) -> dict[str, int]:
        found = self.running.gateway.metrics.cancellations.items()
        return {str(labels[0]): count.value for labels, count in found}


@pytest.fixture
async def grounds(
    start: Start, tritons: tuple[Dialect, Triton, Triton]
) -> AsyncIterator[Callable[..., Awaitable[Ground]]]:
    """`await grounds(both=..., **rules)`."""
    dialect, slow, fast = tritons
    begun: list[Ground] = []

    async def begin(*, both: bool = False, **rules: Any) -> Ground:
        policy = relaxed(**{"deadlines": PATIENT} | rules)
        running = await start(entries=serving(dialect.runtime, policy))
        pods = running.gateway.pods
        for name, triton in [("slow", slow), *([("fast", fast)] if both else [])]:
            given: Any = {"host": "127.0.0.1", "port": triton.http, "cohort": COHORT_NAME}
            pods.place(("chat", name), Pod(name=name, uid=name, pool=POOL, **given))
        pods._turn = -1  # the slow one is asked first
        ai = AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0)
        begun.append(Ground(running, ai, aiohttp.ClientSession(), slow))
        await begun[-1].until(scheduled=0, waiting=0)
        return begun[-1]

    yield begin
    for ground in begun:
        await ground.ai.close()
        await ground.http.close()
        for name in ("slow", "fast"):
            ground.running.gateway.pods.gone("chat", name)


Grounds = Callable[..., Awaitable[Ground]]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_while_its_prompt_is_read(
    grounds: Grounds, stream: bool
) -> None:
    ground = await grounds()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: ground.ask(LONG, stream=stream))
        await ground.until(scheduled=1, waiting=0)
        group.cancel_scope.cancel()

    await ground.until(scheduled=0, waiting=0)
    assert {"client_closed": 1} == ground.cancellations()


async def test_a_client_that_leaves_while_its_request_waits_for_a_slot(grounds: Grounds) -> None:
    ground = await grounds()
    async with anyio.create_task_group() as first:
        first.start_soon(lambda: ground.ask(LONG))
        await ground.until(scheduled=1, waiting=0)
        async with anyio.create_task_group() as second:
            second.start_soon(lambda: ground.ask(LONG))
            await ground.until(scheduled=1, waiting=1)
            second.cancel_scope.cancel()

        await ground.until(scheduled=1, waiting=0)
        first.cancel_scope.cancel()
    await ground.until(scheduled=0, waiting=0)
    assert {"client_closed": 2} == ground.cancellations()


async def test_a_client_that_leaves_in_the_middle_of_a_stream(grounds: Grounds) -> None:
    ground = await grounds()
    stream = await ground.ask(SHORT, stream=True)
    async for _ in stream:
        break
    await ground.until(scheduled=1, waiting=0)
    await stream.close()

    await ground.until(scheduled=0, waiting=0)
    assert {"client_closed": 1} == ground.cancellations()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_deadline_that_ends_before_the_first_token(grounds: Grounds, stream: bool) -> None:
    ground = await grounds()
    with pytest.raises(openai.APIStatusError) as caught:
        await ground.ask(LONG, stream=stream, extra_headers={"x-request-timeout-ms": "500"})

    assert (504, "deadline_exceeded") == (caught.value.status_code, caught.value.code)
    await ground.until(scheduled=0, waiting=0)
    assert {"deadline_exceeded": 1} == ground.cancellations()


async def test_a_deadline_that_ends_in_the_middle_of_a_stream(grounds: Grounds) -> None:
    ground = await grounds()
    limit = {"x-request-timeout-ms": "1500"}
    stream = await ground.ask(SHORT, stream=True, extra_headers=limit)

    async def read() -> None:
        async for _ in stream:
            pass

    with pytest.raises(openai.APIError) as caught:
        await read()
    assert "deadline_exceeded" == caught.value.code
    await ground.until(scheduled=0, waiting=0)
    assert {"deadline_exceeded": 1} == ground.cancellations()


async def test_a_hedge_that_was_won_by_another_pod(grounds: Grounds) -> None:
    ground = await grounds(both=True, hedging=HEDGED)
    traffic = ground.running.gateway.inference.ground.backends.traffics.of(POOL)
    for _ in range(20):  # so that one may be asked twice
        traffic.earn(HEDGED)
    answer = await ground.ai.chat.completions.create(model=NAME, messages=MEDIUM, max_tokens=5)

    assert answer.choices[0].message.content
    await ground.until(scheduled=0, waiting=0)
    assert {"hedge_lost": 1} == ground.cancellations()


async def test_a_model_server_that_is_asked_again_after_many_were_stopped(
    grounds: Grounds,
) -> None:
    """No slot and no connection is lost, however often it happens."""
    ground = await grounds()
    for _ in range(5):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(lambda: ground.ask(LONG))
            await ground.until(scheduled=1, waiting=2)
            group.cancel_scope.cancel()
        await ground.until(scheduled=0, waiting=0)
    stream = await ground.ask(SHORT, stream=True)
    async for chunk in stream:
        assert chunk.choices
        break
    await stream.close()
    assert 16 == ground.cancellations()["client_closed"] + 1
