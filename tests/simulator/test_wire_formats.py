"""What goes over the wire is what the real models send: names, shapes, order, ends."""

import itertools

import pytest

from .conftest import Served

pytestmark = pytest.mark.triton

PROMPT = "Tell me about the sea."


async def test_the_llmapi_streams_the_whole_text_so_far(llmapi: Served) -> None:
    _, events = await llmapi.stream(PROMPT, max_tokens=5)
    texts = [event["text_output"] for event in events]
    assert 5 == len(texts)
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


async def test_the_llmapi_says_why_a_text_ends_with_its_last_response(llmapi: Served) -> None:
    _, events = await llmapi.stream(PROMPT, max_tokens=3, stop_reason=True)
    reasons = [(event["finish_reason"], event["stop_reason"]) for event in events]
    assert [("None", "None"), ("None", "None"), ("length", "None")] == reasons


async def test_the_llmapi_names_the_stop_word(llmapi: Served) -> None:
    _, events = await llmapi.stream('[[sim: say "one two three"]]', stop_words=[" three", "x"])
    assert ("one two", "stop") == (events[-1]["text_output"], events[-1]["finish_reason"])
    _, events = await llmapi.stream(
        '[[sim: say "one two three"]]', stop_words=["two"], stop_reason=True
    )
    assert ("one ", "two") == (events[-1]["text_output"], events[-1]["stop_reason"])


async def test_the_llmapi_answers_with_32_tokens_when_nobody_says_how_many(llmapi: Served) -> None:
    _, events = await llmapi.stream("[[sim: tokens 100]]", max_tokens=None)
    assert 32 == len(events)


async def test_a_request_is_cancelled_by_its_id(served: Served) -> None:
    async with served.open("[[sim: silent_after 1]]", id="mine") as response:
        await anext(aiter(response.content))
        assert (400, [{"error": "Request cancelled by client"}]) == await served.stream(
            "", id="mine", stop=True
        )
        rest = (await response.read()).decode()
    assert '{"error":"Request cancelled by client"}' in rest


async def test_nothing_is_cancelled_without_an_id(served: Served) -> None:
    wanted = {"error": "A request id must be provided for request cancellation"}
    assert (400, [wanted]) == await served.stream("", stop=True)


async def test_the_ensemble_streams_what_is_new_and_counts(ensemble: Served) -> None:
    _, events = await ensemble.stream('[[sim: say "one, two"]]', input_counts=True)
    assert ["one", ",", " two"] == [event["text_output"] for event in events]
    assert [1, 2, 3] == [event["num_output_tokens"] for event in events]
    assert {12} == {event["num_input_tokens"] for event in events}


async def test_the_ensemble_wants_a_token_limit(ensemble: Served) -> None:
    wanted = {"error": "max_tokens is missing"}
    assert (400, [wanted]) == await ensemble.stream(PROMPT, max_tokens=None)


async def test_a_plain_answer_is_the_stream_in_one_piece(served: Served) -> None:
    streamed = await served.say(PROMPT)
    status, answer = await served.plain(PROMPT, exclude_input=True)
    assert (200, streamed) == (status, answer["text_output"])


async def test_a_plain_answer_begins_with_the_prompt_unless_told_not_to(served: Served) -> None:
    streamed = await served.say(PROMPT)
    _, answer = await served.plain(PROMPT)
    assert PROMPT + streamed == answer["text_output"]


async def test_performance_comes_with_the_last_response(served: Served) -> None:
    _, events = await served.stream(PROMPT, max_tokens=2, perf=True)
    assert "first_token_time_ns" not in events[0]
    order = ("arrival", "first_scheduled", "first_token", "last_token")
    times = [int(events[-1][f"{name}_time_ns"]) for name in order]
    assert sorted(times) == times


async def test_a_limit_below_one_is_refused(served: Served) -> None:
    wanted = {"error": "max_tokens is 0; it must be at least 1"}
    assert (400, [wanted]) == await served.stream(PROMPT, max_tokens=0)


async def test_grpc_streams_the_same_text(served: Served) -> None:
    streamed = await served.say(PROMPT, max_tokens=20)
    events = [event async for event in served.grpc(PROMPT, max_tokens=20)]
    assert streamed == served.dialect.text(events)


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("nv_trt_llm_request_metrics", "active context max scheduled waiting"),
        ("nv_trt_llm_kv_cache_block_metrics", "fraction free max reused tokens_per used"),
        ("nv_trt_llm_general_metrics", "iteration_counter timestamp"),
    ],
)
async def test_the_families_of_the_real_backend_are_published(
    served: Served, family: str, kinds: str
) -> None:
    assert kinds.split() == sorted(await served.gauges(family))
