"""Cascades, fallbacks and splits in front of two real Triton servers with the simulated LLM."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from headgate_api.snapshot import FallbackBody, RouteRule, StreamingBody, VerifierBody
from headgate_cluster.triton import Triton
from headgate_gateway.routing.pods import Pod, Pool

from .conftest import KEY, TENANT, Running
from .test_routing import NAME, front, served, to
from .test_triton import _active
from .tritons import simulated

pytestmark = pytest.mark.triton
Start = Callable[..., Awaitable[Running]]
Through = Callable[..., Awaitable[Running]]
SEGMENTS = StreamingBody()


@pytest.fixture(scope="module", params=["llmapi", "python"])
def tritons(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, Triton]]]:
    """The dialect, and a server for each of two models, whose variants have their names."""
    with (
        simulated(request.param, HEADGATE_VARIANT="small") as small,
        simulated(request.param, HEADGATE_VARIANT="large") as large,
    ):
        yield request.param, {"small": small, "large": large}


@pytest.fixture
async def through(start: Start, tritons: tuple[str, dict[str, Triton]]) -> AsyncIterator[Through]:
    """`await through(rules)`: a gateway with this policy before the two servers."""
    dialect, servers = tritons
    begun: list[Running] = []

    async def begin(*rules: RouteRule, **more: Any) -> Running:
        models = [served(name, runtime=f"triton-{dialect}", variants=(name,)) for name in servers]
        running = await start(entries=(front(*rules, **more), TENANT, *models))
        begun.append(running)
        for name, server in servers.items():
            pod = Pod(
                name=name,
                uid=name,
                host="127.0.0.1",
                port=server.http,
                cohort=f"{name}-{name}",
                pool=Pool("chat", f"uid-{name}"),
            )
            running.gateway.pods.place(("chat", name), pod)
        return running

    yield begin
    for running in begun:  # the servers outlive the loop, and connections must not
        for name in servers:
            running.gateway.pods.gone("chat", name)
    await asyncio.sleep(0)


def saying(small: str, large: str) -> Any:
    """A question to which each model has its own answer, in the simulator's words."""
    scripts = f"[[sim: variant small; {small}]] [[sim: variant large; {large}]]"
    return [{"role": "user", "content": scripts}]


GATED = (
    to("small", accept_when="answer.text.size() > 9", streaming=SEGMENTS),
    to("large", streaming=SEGMENTS),
)
NO_YES = saying('say "No."', 'say "Yes, certainly."')


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (NO_YES, "Yes, certainly."),
        (saying('say "I am small and sure."', 'say "Never asked."'), "I am small and sure."),
    ],
)
async def test_only_the_accepted_answer_of_a_cascade_is_given(
    through: Through, messages: Any, text: str
) -> None:
    running = await through(*GATED, architecture="Cascade")
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:
        plain = await ai.chat.completions.create(model=NAME, messages=messages)
        stream = await ai.chat.completions.create(model=NAME, messages=messages, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]

    assert text == plain.choices[0].message.content == "".join(pieces)


async def test_invalid_json_is_repaired_by_a_better_route(through: Through) -> None:
    rules = (
        to(
            "small",
            accept_when="answer.schemaValid",
            fallback=(FallbackBody(route="large", triggers=("Rejected",)),),
        ),
        to("large", fallback_only=True),
    )
    running = await through(*rules, architecture="Single")
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:
        raw = await ai.chat.completions.with_raw_response.create(
            model=NAME,
            messages=saying('say "not JSON"', 'json {"sky": "blue"}'),
            response_format={"type": "json_object"},
        )

    assert '{"sky": "blue"}' == raw.parse().choices[0].message.content
    assert "front/large" == raw.headers["x-headgate-route"]


@pytest.mark.parametrize(("least", "sure"), [(-0.6, "python"), (-0.4, "nobody")])
async def test_how_probable_an_answer_is_decides_where_the_model_tells_it(
    through: Through, tritons: Any, least: float, sure: str
) -> None:
    """The simulated model is sure of each token by -0.5, and tells it only as `triton-python`."""
    rules = (to("small", accept_when=f"answer.logprob.mean > {least}"), to("large"))
    running = await through(*rules, architecture="Cascade")
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:
        answer: Any = await ai.chat.completions.create(
            model=NAME, messages=saying('say "Small, and sure."', 'say "Large."')
        )

    expected = "Small, and sure." if tritons[0] == sure else "Large."
    assert expected == answer.choices[0].message.content


async def test_a_verifier_s_score_decides(through: Through) -> None:
    rules = (
        to(
            "small",
            accept_when="answer.verifier.score >= 0.5",
            verifier=VerifierBody(model="large"),
        ),
        RouteRule(name="rest", respond="Nobody was sure."),
    )
    running = await through(*rules, architecture="Cascade")
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:
        answers = [
            (
                await ai.chat.completions.create(
                    model=NAME, messages=saying('say "Fine."', f'say "{score}"')
                )
            )
            .choices[0]
            .message.content
            for score in ("0.9", "0.1", "very good")
        ]

    assert ["Fine.", "Nobody was sure.", "Nobody was sure."] == answers


async def test_a_stage_in_work_is_stopped_when_its_client_leaves(
    through: Through, tritons: Any
) -> None:
    running = await through(*GATED, architecture="Cascade")
    small = tritons[1]["small"]
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:
        asking = asyncio.create_task(
            ai.chat.completions.create(
                model=NAME, messages=saying("tokens 9000", "tokens 9"), max_tokens=9000
            )
        )
        while not await _active(small):  # noqa: ASYNC110 - nobody would tell us
            await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        while await _active(small):  # noqa: ASYNC110 - nobody would tell us
            await asyncio.sleep(0.05)

    assert 0 == len(running.gateway.inference.calls)
    assert 0 == running.gateway.metrics.bugs.of().value


async def test_when_time_is_short_the_next_stage_is_not_begun(through: Through) -> None:
    running = await through(*GATED, architecture="Cascade")
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:
        with pytest.raises(openai.APIStatusError) as caught:
            await ai.chat.completions.create(
                model=NAME,
                messages=saying('wait 5s; say "No."', 'say "Too late."'),
                extra_headers={"x-request-timeout-ms": "1000"},
            )

    assert "deadline_exceeded" == caught.value.code


def fallen(*triggers: Any) -> tuple[RouteRule, ...]:
    return (
        to("small", fallback=(FallbackBody(route="large", triggers=triggers),)),
        to("large", fallback_only=True),
    )


async def test_a_model_that_fails_or_is_killed_falls_back(through: Through, tritons: Any) -> None:
    """The last one of this file: it kills a server."""
    running = await through(*fallen("Error"), architecture="Single")
    async with AsyncOpenAI(base_url=running.url, api_key=KEY, max_retries=0) as ai:
        failing: Any = await ai.chat.completions.create(
            model=NAME, messages=saying("fail_after 0", 'say "Yes."')
        )
        asking = asyncio.create_task(
            ai.chat.completions.create(
                model=NAME, messages=saying("tokens 9000", 'say "Saved."'), max_tokens=9000
            )
        )
        small = tritons[1]["small"]
        while not await _active(small):  # noqa: ASYNC110 - nobody would tell us
            await asyncio.sleep(0.05)
        os.kill(small.pid, signal.SIGKILL)
        killed = await asking

    assert ("Yes.", "Saved.") == (
        failing.choices[0].message.content,
        killed.choices[0].message.content,
    )
