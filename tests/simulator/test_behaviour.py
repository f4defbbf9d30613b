"""Deployed models under a real Triton: variants, slots, scripts, and how they fail."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from difflib import SequenceMatcher
from typing import Any

import aiohttp
import pytest

from headgate_cluster.errors import ClusterError

from .conftest import LLMAPI, Dialect, Event, Served, events_of

pytestmark = pytest.mark.triton

PROMPT = "Tell me about the sea."
SILENT = "[[sim: silent_after 1]]"
Serve = Callable[..., Served]


class TestText:
    async def test_the_same_question_gets_the_same_answer(self, served: Served) -> None:
        assert await served.say(PROMPT, seed=7) == await served.say(PROMPT, seed=7)

    async def test_another_seed_gets_another_answer(self, served: Served) -> None:
        assert await served.say(PROMPT, seed=7) != await served.say(PROMPT, seed=8)

    async def test_variants_differ_in_a_few_words(self, serve: Serve) -> None:
        prompt = f"{PROMPT} [[sim: tokens 300]]"
        plain = await serve(LLMAPI, step_ms=1).say(prompt)
        small = await serve(LLMAPI, quantization="nvfp4", step_ms=1).say(prompt)
        alike = SequenceMatcher(None, plain.split(), small.split(), autojunk=False).ratio()
        assert 0.8 < alike < 1.0


class TestScripts:
    async def test_json_is_said_as_given(self, served: Served) -> None:
        value = {"city": "Zürich", "rows": [[1], [2]]}
        said = await served.say(f"Answer in JSON. [[sim: json {json.dumps(value)}]]")
        assert value == json.loads(said)

    async def test_a_tool_call_stands_in_its_tags(self, served: Served) -> None:
        call = {"name": "weather", "arguments": {"city": "Oslo"}}
        said = await served.say(f"[[sim: tool_call {json.dumps(call)}]]")
        assert f"<tool_call>\n{json.dumps(call)}\n</tool_call>" == said

    async def test_echo_repeats_the_prompt_without_the_markup(self, served: Served) -> None:
        assert "System. User: hi " == await served.say("System. User: hi [[sim: echo]]")

    async def test_a_failure_before_the_first_token_is_a_400(self, served: Served) -> None:
        wanted = {"error": "simulated failure after 0 tokens"}
        assert (400, [wanted]) == await served.stream("[[sim: fail_after 0]]")

    async def test_a_later_failure_ends_the_stream_with_an_error(self, served: Served) -> None:
        status, events = await served.stream("[[sim: fail_after 2]]")
        assert (200, 3) == (status, len(events))
        assert {"error": "simulated failure after 2 tokens"} == events[-1]

    async def test_a_wrong_script_says_what_is_wrong(self, served: Served) -> None:
        wanted = {"error": "simulator script: there is no word `dance`"}
        assert (400, [wanted]) == await served.stream("[[sim: dance]]")


class TestSlots:
    async def test_what_has_no_slot_waits_and_leaving_frees_one(
        self, serve: Serve, dialect: Dialect
    ) -> None:
        served = serve(dialect, slots=2)
        async with served.open(SILENT) as first, served.open(SILENT):
            # Over gRPC: Triton tells of an HTTP client that left only after a first response.
            queued = [asyncio.create_task(_read(served.grpc(SILENT))) for _ in range(3)]
            await served.until(active=5, scheduled=2, waiting=3, max=2)
            first.close()
            await served.until(active=4, scheduled=2, waiting=2)
            for each in queued:
                each.cancel()
            await served.until(active=1, scheduled=1, waiting=0)
        await served.until(active=0, scheduled=0, waiting=0)
        assert 0 == (await served.gauges("nv_trt_llm_kv_cache_block_metrics"))["used"]
        await asyncio.gather(*queued, return_exceptions=True)

    async def test_a_full_queue_refuses_and_is_alive(self, serve: Serve, dialect: Dialect) -> None:
        served = serve(dialect, engine={"maxBatchSize": 1}, max_waiting=1)
        async with served.open(SILENT), asyncio.TaskGroup() as tasks:
            queued = tasks.create_task(_read(served.grpc(SILENT)))
            await served.until(scheduled=1, waiting=1)
            refusal = {"error": "Maximum queue size reached, dropping request."}
            assert (400, [refusal]) == await served.stream(PROMPT)
            assert (0, "alive: refused for load (400)") == await asyncio.to_thread(served.alive)
            queued.cancel()

    async def test_hundreds_in_the_queue_are_load_and_not_death(
        self, serve: Serve, dialect: Dialect
    ) -> None:
        served = serve(dialect, slots=2)
        flood = [asyncio.create_task(served.stream(SILENT)) for _ in range(300)]
        await served.until(scheduled=2, waiting=298)
        wanted = (0, "alive: no answer within 1 s, which is load")
        assert wanted == await asyncio.to_thread(served.alive, "--seconds=1")
        for stream in flood:
            stream.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


class TestLeavingBeforeTheFirstToken:
    """Triton's HTTP server does not look at a connection before it has something to send."""

    async def test_a_closed_connection_frees_no_slot_and_a_stop_does(
        self, serve: Serve, dialect: Dialect
    ) -> None:
        served = serve(dialect, slots=1)
        asked = asyncio.create_task(served.stream("[[sim: silent]]", id="mine"))
        await served.until(scheduled=1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        waits = asyncio.create_task(served.say(PROMPT))
        await served.until(scheduled=1, waiting=1)

        await served.stream("", id="mine", stop=True)
        assert await waits

    async def test_a_stop_takes_a_request_out_of_the_queue(
        self, serve: Serve, dialect: Dialect
    ) -> None:
        served = serve(dialect, slots=1)
        async with served.open(SILENT), asyncio.TaskGroup() as tasks:
            await served.until(scheduled=1)
            waits = tasks.create_task(served.stream(PROMPT, id="mine"))
            await served.until(waiting=1)
            await served.stream("", id="mine", stop=True)
            assert (400, [{"error": "Request cancelled by client"}]) == await waits


class TestDeadline:
    async def test_a_request_ends_when_its_time_is_over_at_work_or_in_the_queue(
        self, serve: Serve, dialect: Dialect
    ) -> None:
        served = serve(dialect, slots=1)
        over = {"error": "Request timeout expired"}
        _, events = await served.stream(SILENT, time=300)
        assert over == events[-1]
        async with served.open(SILENT):
            await served.until(scheduled=1)
            assert (400, [over]) == await served.stream(PROMPT, time=300)

    async def test_time_enough_changes_nothing(self, served: Served) -> None:
        assert await served.say(PROMPT) == await served.say(PROMPT, time=60_000)

    async def test_a_time_that_is_none_is_refused(self, served: Served) -> None:
        wanted = {"error": "could not convert string to float: 'soon'"}
        assert (400, [wanted]) == await served.stream(PROMPT, time="soon")


class TestDeath:
    async def test_a_killed_stub_is_dead_though_triton_says_ready(
        self, serve: Serve, dialect: Dialect, http: aiohttp.ClientSession
    ) -> None:
        served = serve(dialect)
        assert (0, "alive: answered") == await asyncio.to_thread(served.alive)
        async with served.open("[[sim: die_after 2]]") as response:
            events = events_of(response)
            assert 2 == len([await anext(events), await anext(events)])
            code, sentence = await asyncio.to_thread(served.alive)
            assert (1, "dead: answered 400: ") == (code, sentence[:20])
            assert "is not healthy" in sentence
            url = f"http://127.0.0.1:{served.triton.http}/v2/models/{dialect.model}/ready"
            async with http.get(url) as ready:
                assert 200 == ready.status

    async def test_a_server_that_is_gone_is_dead(self, serve: Serve) -> None:
        served = serve(LLMAPI)
        served.triton.stop()
        assert (1, "dead: the connection is refused") == await asyncio.to_thread(served.alive)


class TestLoading:
    @pytest.mark.parametrize(
        ("simulation", "message"),
        [
            ({"fail_load": "out of GPU memory"}, "out of GPU memory"),
            ({"slot": 3}, "simulation.slot is unknown"),
        ],
    )
    async def test_a_load_that_fails_ends_the_server_with_the_reason(
        self, serve: Serve, dialect: Dialect, simulation: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ClusterError, match=message):
            serve(dialect, **simulation)

    async def test_the_llmapi_streams_only_when_decoupled(self, serve: Serve) -> None:
        served = serve(LLMAPI, engine={"config": {"triton_config": {"decoupled": False}}})
        status, answer = await served.plain('[[sim: say "hi"]]', exclude_input=True)
        assert (200, "hi") == (status, answer["text_output"])
        refusal = {"error": "Streaming is only supported in decoupled mode."}
        assert (400, [refusal]) == await served.stream(PROMPT)


class TestEnd:
    async def test_a_stream_that_has_begun_is_finished_after_sigterm(
        self, serve: Serve, dialect: Dialect
    ) -> None:
        served = serve(dialect, exit_timeout=30)
        whole = await served.say("[[sim: tokens 100]]")
        async with served.open("[[sim: tokens 100]]") as response:
            events = [await anext(events_of(response))]
            os.kill(served.triton.pid, signal.SIGTERM)
            events += [event async for event in events_of(response)]
            assert whole == dialect.text(events)
            response.close()  # Triton's end waits for connections that are kept alive


async def _read(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]
