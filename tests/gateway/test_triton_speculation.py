"""A route before two real Triton servers with the simulated LLM, of which one guesses ahead."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from openai import AsyncOpenAI

from headgate_api.snapshot import SpeculationBody, StickinessBody
from headgate_cluster.triton import Triton
from headgate_gateway.routing.pods import Pod, Pool
from headgate_gateway.routing.speculation import ROUND

from .conftest import KEY, TENANT, Running, cohort, guessing, model
from .test_routing import NAME, front, to
from .tritons import simulated

pytestmark = pytest.mark.triton
Start = Callable[..., Awaitable[Running]]
COHORTS: Final = (guessing("guessing"), cohort("plain"))
OPTIONS: Final = {
    "triton_config": {"max_batch_size": 0, "decoupled": True},
    "simulation": {"step_ms": 1},
}
NGRAM: Final = {"decoding_type": "NGram", "max_draft_len": 4}


@pytest.fixture(scope="module")
def tritons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Triton]]:
    """Both twins, by cohort."""
    folder: Path = tmp_path_factory.mktemp("options")
    (folder / "guessing.yaml").write_text(json.dumps(OPTIONS | {"speculative_config": NGRAM}))
    (folder / "plain.yaml").write_text(json.dumps(OPTIONS))
    with (
        simulated("llmapi", LLM_CONFIG_PATH=str(folder / "guessing.yaml")) as one,
        simulated("llmapi", LLM_CONFIG_PATH=str(folder / "plain.yaml")) as other,
    ):
        yield {"guessing": one, "plain": other}


@pytest.fixture
async def running(start: Start, tritons: dict[str, Triton]) -> AsyncIterator[Running]:
    """A gateway whose route deals each request anew."""
    rule = to("all", "llama", speculative=SpeculationBody(percent=50, min_benefit_percent=0))
    policy = front(rule, stickiness=StickinessBody(key="None"))
    begun = await start(entries=(policy, TENANT, model(*COHORTS)))
    for name, server in tritons.items():
        pool = Pool("chat", "uid-llama")
        pod = Pod(name=name, uid=name, host="127.0.0.1", port=server.http, cohort=name, pool=pool)
        begun.gateway.pods.place(("chat", name), pod)
    yield begun
    for name in tritons:  # the servers outlive the loop, and connections must not
        begun.gateway.pods.gone("chat", name)
    await asyncio.sleep(0)


async def asking(running: Running, count: int, script: str) -> dict[str, set[tuple[str, int]]]:
    """Ask so often, and tell the texts and their tokens by the variant that wrote them."""
    found: dict[str, set[tuple[str, int]]] = {}
    messages: Any = [{"role": "user", "content": f"Tell me about the sea. [[sim: {script}]]"}]
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:
        for _ in range(count):
            raw = await ai.chat.completions.with_raw_response.create(model=NAME, messages=messages)
            answer = raw.parse()
            assert answer.usage is not None
            text = answer.choices[0].message.content or ""
            said = found.setdefault(raw.headers["x-headgate-variant"], set())
            said.add((text, answer.usage.completion_tokens))
    return found


async def test_both_write_the_same_and_count_the_same_until_guesses_turn_bad(
    running: Running,
) -> None:
    speculating = running.gateway.inference.ground.targets.speculating
    good = await asking(running, 3 * ROUND, "tokens 21; accept 75")
    [before] = speculating.judged()
    await asking(running, 3 * ROUND, "tokens 21; accept 5")
    [after] = speculating.judged()

    assert {"bf16", "bf16-eagle3"} == set(good)
    assert good["bf16"] == good["bf16-eagle3"]
    [(_, tokens)] = good["bf16"]
    assert 21 == tokens
    assert before.worth
    assert before.acceptance == pytest.approx(75, abs=5)
    assert before.benefit is not None
    assert not after.worth
    assert after.acceptance is not None
    assert after.acceptance < 40
