"""The simulated `trtllm-serve`, asked with OpenAI's own client and as a pod's probe asks."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import aiohttp
import anyio
import jsonschema
import openai
import pytest
import yaml
from aiohttp import web
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from headgate_api.variants import Variant
from headgate_cluster.files import TREE
from headgate_controllers.modeldeployment.servers import SERVERS
from headgate_controllers.modeldeployment.sources import locate
from headgate_policy.chat import STANDARD, ChatTemplate
from simulated_llm.answer import Ask, answer
from simulated_llm.prose import Drift
from simulated_serve.__main__ import parser, served

PROBE = TREE / "controllers/headgate_controllers/modeldeployment/files/alive.py"
HELLO: Any = [{"role": "user", "content": "Tell me about the sea."}]
FORECAST: Any = {
    "type": "function",
    "function": {
        "name": "forecast",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
CALLS = '[[sim: tool_call {"name": "forecast", "arguments": {"town": "Oslo"}}]]'


class Running:
    """One server, and clients of it."""

    def __init__(self, port: int, http: aiohttp.ClientSession) -> None:
        self.port = port
        self.http = http
        self.url = f"http://127.0.0.1:{port}"
        self.client = AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    async def chat(self, content: str, **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": content}]
        return await self.client.chat.completions.create(model="llm", messages=messages, **more)

    async def metrics(self) -> dict[str, float]:
        async with self.http.get(f"{self.url}/prometheus/metrics") as response:
            families = text_string_to_metric_families(await response.text())
        return {s.name: s.value for family in families for s in family.samples}

    async def until(self, **wanted: float) -> None:
        seen: dict[str, float] = {}
        with anyio.move_on_after(20):
            while wanted != seen:
                await anyio.sleep(0.02)
                told = await self.metrics()
                seen = {name: told[f"trtllm_num_requests_{name}"] for name in wanted}
            return
        pytest.fail(f"wanted {wanted}, saw {seen}")


Serve = Callable[..., Awaitable[Running]]


@pytest.fixture
async def serve(tmp_path: Any) -> AsyncIterator[Serve]:
    """Start a server with the command line and the file that the operator writes."""

    async def start(*args: str, config: dict[str, Any] | None = None, **simulation: Any) -> Running:
        options = {"simulation": {"step_ms": 1, "step_ms_per_sequence": 0.1} | simulation}
        variant = Variant.model_validate(
            {
                "name": "bf16",
                "source": {"uri": "hf://org/simulated@main"},
                "engine": {"config": options | (config or {})},
            }
        )
        kind = SERVERS["trtllm-serve"]
        ((_, text),) = kind.files(variant).items()
        (tmp_path / "llm.yaml").write_text(text)
        line = [*kind.arguments(locate(variant.source.uri), 30), *args]
        given = parser().parse_args(line)
        given.options = tmp_path / "llm.yaml"
        environment = {"HEADGATE_VARIANT": "bf16", "HEADGATE_QUANTIZATION": "none"}
        runner = web.AppRunner(served(given, environment).app(), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running = Running(int(runner.addresses[0][1]), http)
        stack.push_async_callback(running.client.close)
        return running

    async with AsyncExitStack() as stack, aiohttp.ClientSession() as http:
        yield start


class TestText:
    async def test_is_that_of_the_simulated_triton(self, serve: Serve) -> None:
        running = await serve()
        said = await running.chat(HELLO[0]["content"], seed=7)

        prompt = ChatTemplate(STANDARD).prompt(HELLO)
        same = answer(Ask(prompt=prompt, max_tokens=4096, seed=7), Drift("none", 0.02))
        assert same.text == said.choices[0].message.content
        assert "stop" == said.choices[0].finish_reason

    async def test_comes_in_a_stream_as_in_one_piece(self, serve: Serve) -> None:
        running = await serve()
        whole = await running.chat("Hi", max_tokens=20)
        stream = await running.chat(
            "Hi", max_tokens=20, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

        deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
        assert "assistant" == deltas[0].delta.role
        said = "".join(choice.delta.content or "" for choice in deltas)
        assert whole.choices[0].message.content == said
        assert ["length"] == [c.finish_reason for c in deltas if c.finish_reason]
        assert (20, whole.usage.prompt_tokens) == (
            chunks[-1].usage.completion_tokens,
            chunks[-1].usage.prompt_tokens,
        )

    async def test_of_a_completion_has_no_template(self, serve: Serve) -> None:
        running = await serve()
        said = await running.client.completions.create(model="llm", prompt='[[sim: say "Ahoy"]]')
        stream = await running.client.completions.create(
            model="llm", prompt='[[sim: say "Ahoy"]]', stream=True
        )
        assert "Ahoy" == said.choices[0].text
        assert "Ahoy" == "".join([chunk.choices[0].text async for chunk in stream])

    async def test_ends_at_a_stop_word(self, serve: Serve) -> None:
        said = await (await serve()).chat('[[sim: say "one two three"]]', stop=[" three"])
        assert "one two" == said.choices[0].message.content
        assert " three" == said.choices[0].stop_reason


class TestTools:
    async def test_a_call_is_taken_out_of_the_text(self, serve: Serve) -> None:
        running = await serve("--tool_parser=qwen3")
        said = await running.chat(f"I look. {CALLS}", tools=[FORECAST], tool_choice="auto")

        (call,) = said.choices[0].message.tool_calls
        assert ("forecast", {"town": "Oslo"}) == (
            call.function.name,
            json.loads(call.function.arguments),
        )
        assert "tool_calls" == said.choices[0].finish_reason

    async def test_a_streamed_call_has_its_name_first(self, serve: Serve) -> None:
        running = await serve("--tool_parser=qwen3")
        stream = await running.chat(CALLS, tools=[FORECAST], tool_choice="auto", stream=True)
        choices = [chunk.choices[0] async for chunk in stream]

        calls = [call.function for choice in choices for call in choice.delta.tool_calls or ()]
        assert [("forecast", ""), (None, '{"town": "Oslo"}')] == [
            (call.name, call.arguments) for call in calls
        ]
        assert "tool_calls" == choices[-1].finish_reason

    async def test_without_a_parser_it_stays_text(self, serve: Serve) -> None:
        said = await (await serve()).chat(CALLS, tools=[FORECAST], tool_choice="auto")
        assert "<tool_call>" in said.choices[0].message.content
        assert not said.choices[0].message.tool_calls

    async def test_a_required_call_is_one_of_the_first_tool(self, serve: Serve) -> None:
        running = await serve("--tool_parser=qwen3")
        said = await running.chat("Hi", tools=[FORECAST], tool_choice="required")
        (call,) = said.choices[0].message.tool_calls
        assert ["town"] == list(json.loads(call.function.arguments))

    async def test_a_named_tool_gets_all_of_the_answer_as_arguments(self, serve: Serve) -> None:
        running = await serve()
        named = {"type": "function", "function": {"name": "forecast"}}
        said = await running.chat("Hi", tools=[FORECAST], tool_choice=named)
        stream = await running.chat("Hi", tools=[FORECAST], tool_choice=named, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in stream]

        (call,) = said.choices[0].message.tool_calls
        pieces = [c.function.arguments for delta in deltas for c in delta.tool_calls or ()]
        assert call.function.arguments == "".join(pieces)
        jsonschema.validate(json.loads(call.function.arguments), FORECAST["function"]["parameters"])


class TestResponseFormat:
    SCHEMA: ClassVar[Any] = {
        "type": "object",
        "properties": {"town": {"type": "string"}, "boats": {"type": "integer", "minimum": 2}},
        "required": ["town", "boats"],
        "additionalProperties": False,
    }

    async def test_an_answer_fits_its_schema(self, serve: Serve) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": self.SCHEMA}}
        said = await (await serve()).chat("Hi", response_format=wanted)
        jsonschema.validate(json.loads(said.choices[0].message.content), self.SCHEMA)

    async def test_any_object_will_do_without_one(self, serve: Serve) -> None:
        said = await (await serve()).chat("Hi", response_format={"type": "json_object"})
        assert isinstance(json.loads(said.choices[0].message.content), dict)

    async def test_a_script_goes_before_it(self, serve: Serve) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": self.SCHEMA}}
        said = await (await serve()).chat("[[sim: json [1]]]", response_format=wanted)
        assert [1] == json.loads(said.choices[0].message.content)


async def test_reasoning_stands_apart_where_the_server_parses_it(serve: Serve) -> None:
    running = await serve("--reasoning_parser=qwen3")
    said = await running.chat('[[sim: say "<think>Hm.</think>Yes"]]')
    assert ("Hm.", "Yes") == (
        said.choices[0].message.reasoning_content,
        said.choices[0].message.content,
    )


async def test_a_prompt_that_was_read_before_is_cached_but_for_its_last_block(
    serve: Serve,
) -> None:
    running = await serve(tokens_per_block=8)
    first = await running.chat("word " * 40, max_tokens=1)
    second = await running.chat("word " * 40, max_tokens=1)

    assert 0 == first.usage.prompt_tokens_details.cached_tokens
    read, cached = second.usage.prompt_tokens, second.usage.prompt_tokens_details.cached_tokens
    assert read - 8 <= cached < read


async def test_logprobs_come_token_by_token(serve: Serve) -> None:
    said = await (await serve()).chat('[[sim: say "one two"]]', logprobs=True)
    assert ["one", " two"] == [one.token for one in said.choices[0].logprobs.content]


class TestRefusals:
    async def test_a_field_that_is_not_known_is_refused(self, serve: Serve) -> None:
        running = await serve()
        body = {"model": "llm", "messages": HELLO, "service_tier": "auto"}
        async with running.http.post(f"{running.url}/v1/chat/completions", json=body) as response:
            wanted = {"error": "Object contains unknown field `service_tier`"}
            assert (400, wanted) == (response.status, await response.json())

    async def test_an_error_is_flat(self, serve: Serve) -> None:
        running = await serve()
        body = {"model": "llm", "prompt": "[[sim: fail_after 1]]"}
        async with running.http.post(f"{running.url}/v1/completions", json=body) as response:
            assert (400, "error", "simulated failure after 1 tokens", 400) == (
                response.status,
                *map((await response.json()).get, ("object", "message", "code")),
            )

    @pytest.mark.parametrize(
        ("more", "sentence"),
        [
            ({"n": 2}, "the simulation gives one choice"),
            ({"max_tokens": 0}, "it must be at least 1"),
            (
                {
                    "tools": [FORECAST],
                    "tool_choice": {"type": "function", "function": {"name": "x"}},
                },
                "is not among the tools",
            ),
        ],
    )
    async def test_what_makes_no_sense(
        self, serve: Serve, more: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(openai.BadRequestError, match=sentence):
            await (await serve()).chat("Hi", **more)

    async def test_a_stream_that_fails_breaks_off(self, serve: Serve) -> None:
        running = await serve()
        stream = await running.chat("[[sim: fail_after 2]]", stream=True)
        with pytest.raises(openai.APIConnectionError):
            async for _ in stream:
                pass

    async def test_a_full_queue(self, serve: Serve) -> None:
        running = await serve(slots=1, max_waiting=1)
        held = [asyncio.create_task(running.chat("[[sim: silent]]"))]
        await running.until(running=1, waiting=0)
        held.append(asyncio.create_task(running.chat("[[sim: silent]]")))
        await running.until(running=1, waiting=1)
        with pytest.raises(openai.BadRequestError, match="Maximum queue size reached"):
            await running.chat("Hi")
        for each in held:
            each.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_a_client_that_leaves_before_the_first_token_frees_its_slot(serve: Serve) -> None:
    running = await serve(slots=1, cancellation_check_ms=20)
    asked = asyncio.create_task(running.chat("[[sim: silent]]", stream=True))
    await running.until(running=1)
    await (await asked).close()
    await running.until(running=0)


class TestMetrics:
    async def test_count_requests_and_tokens(self, serve: Serve) -> None:
        running = await serve()
        await running.chat("Hi", max_tokens=5)
        told = await running.metrics()
        assert (1, 5) == (
            told["trtllm_request_success_total"],
            told["trtllm_generation_tokens_total"],
        )
        assert 0 == told["trtllm_num_requests_waiting"]

    async def test_are_published_only_when_asked_for(self, serve: Serve) -> None:
        running = await serve(config={"return_perf_metrics": False})
        async with running.http.get(f"{running.url}/prometheus/metrics") as response:
            assert 404 == response.status
        async with running.http.get(f"{running.url}/metrics") as response:
            assert 0 == (await response.json())[0]["numQueuedRequests"]


class TestGuesses:
    CONFIG: ClassVar[dict[str, Any]] = {
        "speculative_config": {"decoding_type": "NGram", "max_draft_len": 3}
    }

    async def test_come_in_fewer_events_and_change_no_token(self, serve: Serve) -> None:
        running = await serve(config=self.CONFIG)
        content = "[[sim: tokens 41; accept 100]]"
        whole = (await running.chat(content, logprobs=True)).choices[0]
        stream = await running.chat(content, logprobs=True, stream=True)
        pieces = [chunk.choices[0] async for chunk in stream]

        assert whole.message.content == "".join(piece.delta.content or "" for piece in pieces)
        assert whole.logprobs.content == [
            one for piece in pieces if piece.logprobs for one in piece.logprobs.content
        ]
        assert 1 + 11 == len(pieces), "the role, and the steps"

    async def test_are_counted(self, serve: Serve) -> None:
        running = await serve(config=self.CONFIG, acceptance_percent=50)
        await running.chat("[[sim: tokens 101]]")

        told = await running.metrics()
        counted = [
            told[f"trtllm_spec_decode_num_{kind}_tokens_total"] for kind in ("draft", "accepted")
        ]
        assert counted[0] == 2 * counted[1] > 0


class TestPod:
    async def test_its_paths_answer(self, serve: Serve) -> None:
        running = await serve()
        async with running.http.get(f"{running.url}/health") as response:
            assert (200, b"") == (response.status, await response.read())
        assert ["org/simulated"] == [model.id async for model in running.client.models.list()]

    async def test_its_liveness_probe_gets_a_token(self, serve: Serve) -> None:
        running = await serve()
        command = [sys.executable, str(PROBE), "llm", "trtllm-serve", f"--port={running.port}"]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False
        )
        assert (0, "alive: answered\n", "") == (done.returncode, done.stdout, done.stderr)

    async def test_a_load_that_fails_says_why(self, serve: Serve) -> None:
        with pytest.raises(ValueError, match="out of GPU memory"):
            await serve(fail_load="out of GPU memory")

    def test_its_options_are_those_of_the_operator(self) -> None:
        variant = Variant.model_validate({"name": "v", "source": {"uri": "hf://org/m@main"}})
        written = yaml.safe_load(SERVERS["trtllm-serve"].files(variant)["llm.yaml"])
        assert {"return_perf_metrics", "enable_iter_perf_stats"} <= written.keys()
