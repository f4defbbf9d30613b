"""Cascades and fallbacks in virtual time: who is asked, what is shown, and when it ends."""

import asyncio
from typing import Any

import pytest

from headgate_api.snapshot import (
    DeadlineBody,
    GenerationBody,
    RetryBody,
    RouteBody,
    VerifierBody,
)
from headgate_gateway.routing.trial import MENDABLE

from .courses import STOPPED, Field, back, cascade, on, router, rule
from .engine import virtual
from .virtual import Server

LONG = "answer.text.size() > 5"
FAST = DeadlineBody(total=10.0, stream=10.0, first_segment=4.0, idle_token=2.0, reserve=0.5)
TWO = cascade(rule("small", accept_when=LONG), rule("large"))
STREAMS = pytest.mark.parametrize("stream", [True, False])


@STREAMS
@virtual
async def test_an_accepted_answer_is_the_only_one(stream: bool) -> None:
    async with on(TWO, small="0.5 Enough 0.5 words end", large="never end") as field:
        told = await field.ask(stream=stream)

    assert ("ok", "Enough words", 1.0) == (told.code, told.text, told.seconds)
    assert ["small accepted"] == told.way
    assert 0 == field.asked("large")
    assert {"answer.text"}.isdisjoint(told.stages[0].words)


@STREAMS
@virtual
async def test_a_rejected_answer_is_never_shown(stream: bool) -> None:
    async with on(TWO, small="0.5 No 1 end", large="0.5 Certainly not end") as field:
        told = await field.ask(stream=stream)

    assert ("ok", "Certainly not", 2.0) == (told.code, told.text, told.seconds)
    assert ["small rejected", "large given"] == told.way
    assert ["small ok", "large ok"] == told.attempts
    assert "large" == told.request.rule.name == told.request.model.identity.name


@virtual
async def test_the_last_stage_is_given_as_it_comes() -> None:
    async with on(TWO, small="1 No end", large="1 One 5 two end") as field:
        request, course = field.course(stream=True)
        reading = asyncio.create_task(field.read(request, course))
        await asyncio.sleep(3)
        assert course._open is not None
        told = await reading

    assert ("One two", 7.0) == (told.text, told.seconds)


@virtual
async def test_what_all_stages_cost_is_known_and_the_answer_s_own_is_told() -> None:
    async with on(TWO, small="No end", large="Certainly not now end") as field:
        told = await field.ask()

    first, last = (each.usage for each in told.request.timeline.attempts)
    assert first is not None
    assert last is not None
    assert told.end is not None
    assert (1, 3) == (first.output_tokens, last.output_tokens)
    assert last == told.end.usage
    assert [first.tokens, last.tokens] == [each.tokens for each in told.stages]


@pytest.mark.parametrize("script", ["One two three cut", "One two three 20", "One two error"])
@virtual
async def test_what_a_broken_answer_has_cost_is_known(script: str) -> None:
    policy = cascade(*TWO.routes, deadlines=FAST, retries=RetryBody(max_attempts=1))
    async with on(policy, small=script, large="Certainly not end") as field:
        told = await field.ask()

    assert ["small failed", "large given"] == told.way
    spent = [each.usage for each in told.request.timeline.attempts]
    assert [script.count(" "), 2] == [usage.output_tokens for usage in spent if usage is not None]
    assert [each and each.tokens for each in spent] == [stage.tokens for stage in told.stages]


@virtual
async def test_what_never_began_has_cost_nothing() -> None:
    async with on(TWO, small="!500", large="Certainly not end") as field:
        told = await field.ask()

    assert [True, False] == [stage.tokens is None for stage in told.stages]


@virtual
async def test_the_client_hears_what_it_waits_for() -> None:
    policy = cascade(rule("small", accept_when=LONG), rule("large"))
    async with on(policy, small="9 No 9 end", large="9 Certainly end") as field:
        told = await field.ask(stream=True, headers={b"x-stainless-read-timeout": b"15"})

    assert (["stage small"] * 3 + ["stage large"] * 2, 27.0) == (told.waits, told.seconds)


@virtual
async def test_a_stage_that_does_not_take_the_request_is_passed_over() -> None:
    policy = cascade(
        rule("small", accept_when=LONG),
        rule("tools", when="request.hasTools", accept_when=LONG),
        rule("large"),
    )
    async with on(policy, small="No end", tools="Tools end", large="Certainly end") as field:
        told = await field.ask()

    assert ["small rejected", "tools skipped", "large given"] == told.way
    assert 0 == field.asked("tools")
    assert {"request.hasTools": False} == told.decision.words


@virtual
async def test_a_cascade_begins_with_the_first_stage_that_takes_the_request() -> None:
    policy = cascade(
        rule("tools", when="request.hasTools", accept_when=LONG),
        rule("small", accept_when=LONG),
        rule("large"),
    )
    async with on(policy, tools="Tools end", small="No end", large="Certainly end") as field:
        told = await field.ask()

    assert (["small rejected", "large given"], 1) == (told.way, told.decision.rule)
    assert {"request.hasTools": False} == told.decision.words


@pytest.mark.parametrize("script", ["!500", "cut", "error", "nonsense", "!429", "", "!400"])
@virtual
async def test_a_stage_that_fails_is_followed_by_the_next(script: str) -> None:
    policy = cascade(
        rule("small", accept_when=LONG),
        rule("large"),
        deadlines=FAST,
        retries=RetryBody(retry_on=()),
    )
    async with on(policy, small=script, large="Certainly end") as field:
        told = await field.ask()

    assert ("ok", "Certainly", ["small failed", "large given"]) == (told.code, told.text, told.way)


@virtual
async def test_a_stage_without_a_ready_pod_is_skipped() -> None:
    async with Field(TWO, {"small": [], "large": [Server(["Certainly end"])]}) as field:
        told = await field.ask()

    assert ["small skipped", "large given"] == told.way
    assert "model_not_ready" == told.stages[0].reason


@pytest.mark.parametrize("model", ["large", "judge"])
@virtual
async def test_a_model_that_is_rolled_out_meanwhile_answers_all_the_same(model: str) -> None:
    policy = VERIFIED if model == "judge" else TWO
    said = "Enough words 4 end" if model == "judge" else "1 No 4 end"
    async with on(policy, small=said, large="Certainly end", judge="=1 end") as field:
        reading = asyncio.create_task(field.read(*field.course()))
        await asyncio.sleep(2)
        field.roll(model)
        told = await reading

    assert ["small ok", f"{model} ok"] == told.attempts
    assert f"{model}-new" == told.request.timeline.attempts[-1].cohort.name


@virtual
async def test_when_nobody_answers_the_client_gets_a_reason() -> None:
    policy = cascade(rule("small", accept_when=LONG), rule("large"), retries=RetryBody(retry_on=()))
    async with on(policy, small="No end", large="!500") as field:
        told = await field.ask()

    assert ("upstream_error", "") == (told.code, told.text)
    assert ["small rejected", "large failed"] == told.way


@STREAMS
@virtual
async def test_one_route_alone_may_want_something_of_its_answer(stream: bool) -> None:
    policy = RouteBody(models=("assistant",), routes=(rule("small", accept_when=LONG),))
    async with on(policy, small="No end") as field:
        told = await field.ask(stream=stream)

    assert ("answer_not_accepted", "", ["small rejected"]) == (told.code, told.text, told.way)
    assert told.refusal is not None
    assert 502 == told.refusal.status


# Time


@virtual
async def test_all_stages_have_one_deadline() -> None:
    policy = cascade(rule("small", accept_when=LONG), rule("large"), deadlines=FAST)
    async with on(policy, small="3 No end", large="1 Certainly " * 9) as field:
        told = await field.ask()

    assert ("deadline_exceeded", 9.5) == (told.code, told.seconds)
    assert ["small rejected", "large failed"] == told.way


@virtual
async def test_a_stage_that_usually_takes_longer_than_there_is_time_is_not_asked() -> None:
    policy = cascade(
        rule("small", accept_when=LONG),
        rule("large", fallback=back("quick", "Timeout")),
        rule("quick", fallback_only=True),
        deadlines=FAST,
    )
    slow = "3 N 1.5 o 1.5 end"
    async with on(
        policy, small=["No end"] * 20 + [slow], large="3 Certainly 1 end", quick="Well end"
    ) as field:
        await asyncio.gather(*(field.ask() for _ in range(20)))
        told = await field.ask()

    assert ["small rejected", "large skipped", "quick given"] == told.way
    assert ("Well", 6.0, 20) == (told.text, told.seconds, field.asked("large"))


# Ends from outside

STATES: dict[str, tuple[dict[str, str], float]] = {
    "before the first stage answers": ({"small": ""}, 1.0),
    "in the middle of an answer that is held": ({"small": "Good 9 day end"}, 1.0),
    "while the last stage is silent": ({"small": "No end", "large": "head"}, 1.0),
    "in the middle of what is given": ({"small": "No end", "large": "Good 9 day end"}, 1.0),
    "while a stage connects": ({"small": "No end", "large": "!503/3"}, 0.5),
}


@STREAMS
@pytest.mark.parametrize("state", STATES)
@virtual
async def test_a_course_can_be_stopped_in_every_state(state: str, stream: bool) -> None:
    scripts, seconds = STATES[state]
    async with on(TWO, **{"large": "Certainly end"} | scripts) as field:
        request, course = field.course(stream=stream)
        asyncio.get_running_loop().call_later(seconds, course.stop, STOPPED)
        told = await field.read(request, course)

    assert ("gateway_draining", seconds) == (told.code, told.seconds)
    assert told.stages[-1].result in {"stopped", "failed"}
    assert "gateway_draining" == told.stages[-1].reason


@STREAMS
@pytest.mark.parametrize("state", STATES)
@virtual
async def test_a_client_can_leave_in_every_state(state: str, stream: bool) -> None:
    scripts, seconds = STATES[state]
    async with on(TWO, **{"large": "Certainly end"} | scripts) as field:
        request, course = field.course(stream=stream)
        reading = asyncio.create_task(field.read(request, course))
        await asyncio.sleep(seconds)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    assert request.decision is not None
    assert ("stopped", "cancelled") == (
        request.decision.stages[-1].result,
        request.decision.stages[-1].reason,
    )


@virtual
async def test_an_unforeseen_error_is_not_swallowed() -> None:
    async with on(TWO, small="No end", large="Fine end") as field:
        request, course = field.course()
        field.tables = None  # type: ignore[assignment]
        with pytest.raises(AttributeError):
            await field.read(request, course)


@pytest.mark.parametrize(
    ("deadlines", "seconds", "way"),
    [
        (DeadlineBody(), 5.0, ["small skipped", "large given"]),
        (DeadlineBody(stages={"context": 0.5}), 0.5, ["small skipped", "large given"]),
        (DeadlineBody(total=3.0, stream=3.0, reserve=0.5), 2.5, ["small skipped"]),
    ],
)
@virtual
async def test_a_prompt_that_takes_too_long_to_write_is_given_up(
    deadlines: DeadlineBody,
    seconds: float,
    way: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = cascade(rule("small", accept_when=LONG), rule("large"), deadlines=deadlines)
    async with on(policy, small="", large="Certainly end") as field:
        field.ground.preparation._compiled.clear()  # so it is done in threads

        async def in_a_thread(do: Any, asked: Any, job: Any) -> Any:
            if job.model.identity.name == "small":
                await asyncio.sleep(99)
            return do(asked, job)

        monkeypatch.setattr(asyncio, "to_thread", in_a_thread)
        told = await field.ask()

    assert (seconds, way) == (told.seconds, told.way)
    assert told.code == ("ok" if len(way) == 2 else "deadline_exceeded")


# Fallbacks


def falling(*triggers: Any, **more: Any) -> RouteBody:
    return router(
        rule("fast", fallback=back("safe", *triggers), **more),
        rule("safe", fallback_only=True),
        deadlines=FAST,
        retries=RetryBody(retry_on=()),
    )


@STREAMS
@pytest.mark.parametrize(
    ("script", "trigger"),
    [
        ("!500", "Error"),
        ("error", "Error"),
        ("nonsense", "Error"),
        ("!503", "Error"),
        ("!429", "Saturated"),
        ("", "Timeout"),
        ("head", "Timeout"),
    ],
)
@virtual
async def test_a_route_falls_back_for_what_it_names(
    script: str, trigger: str, stream: bool
) -> None:
    async with on(falling(trigger), fast=script, safe="Safe end") as field:
        told = await field.ask(stream=stream)
    others = {"Error", "Saturated", "Timeout", "Rejected"} - {trigger}
    async with on(falling(*others), fast=script, safe="Safe end") as field:
        alone = await field.ask(stream=stream)

    assert ("ok", "Safe", ["fast failed", "safe given"]) == (told.code, told.text, told.way)
    assert trigger == told.stages[1].trigger
    assert (["fast failed"], 0) == (alone.way, field.asked("safe"))


@virtual
async def test_a_stream_of_which_something_was_shown_does_not_fall_back() -> None:
    async with on(falling("Error"), fast="Good cut", safe="Safe end") as field:
        stream = await field.ask(stream=True)
    async with on(falling("Error"), fast="Good cut", safe="Safe end") as field:
        plain = await field.ask()

    assert ("Good", "upstream_lost", ["fast failed"]) == (stream.text, stream.code, stream.way)
    assert ("Safe", "ok", ["fast failed", "safe given"]) == (plain.text, plain.code, plain.way)


@virtual
async def test_without_a_ready_pod_a_route_counts_as_saturated() -> None:
    async with Field(falling("Saturated"), {"fast": [], "safe": [Server(["Safe end"])]}) as field:
        told = await field.ask(stream=True)

    assert ("Safe", ["fast skipped", "safe given"]) == (told.text, told.way)


@virtual
async def test_each_route_is_taken_once_however_they_point_at_each_other() -> None:
    policy = router(
        rule("one", fallback=back("two", "Error")),
        rule("two", fallback_only=True, fallback=back("three", "Error")),
        rule("three", fallback_only=True, fallback=(*back("two", "Error"), *back("one", "Error"))),
    )
    async with on(policy, one="!500", two="!500", three="!500") as field:
        told = await field.ask()

    assert ["one failed", "two failed", "three failed"] == told.way
    assert [1, 1, 1] == [field.asked(name) for name in ("one", "two", "three")]


@virtual
async def test_the_same_call_is_not_made_again() -> None:
    policy = router(
        rule("fast", fallback=(*back("again", "Error"), *back("cool", "Error"))),
        rule("again", "fast", fallback_only=True, fallback=back("cool", "Error")),
        rule("cool", "fast", fallback_only=True, generation=GenerationBody(cap_temperature=0.0)),
    )
    async with on(policy, fast=["!500", "Cool end"]) as field:
        told = await field.ask()

    assert ["fast failed", "again skipped", "cool given"] == told.way
    assert 2 == field.asked("fast")


@virtual
async def test_a_fixed_answer_is_the_last_resort() -> None:
    policy = router(
        rule("fast", fallback=back("sorry", "Error")),
        rule("sorry", targets=(), respond="We are closed.", fallback_only=True),
    )
    async with on(policy, fast="!500") as field:
        told = await field.ask(stream=True)

    assert ("ok", "We are closed.") == (told.code, told.text)
    assert told.end is not None
    assert (0, 0) == (told.end.usage.input_tokens, told.end.usage.output_tokens)


@virtual
async def test_a_request_s_own_fault_falls_back_to_nobody() -> None:
    policy = router(
        rule("fast", fallback=back("safe", "Error", "Rejected", "Saturated", "Timeout")),
        rule("safe", fallback_only=True),
    )
    async with on(policy, fast="Fine end", safe="Safe end") as field:
        told = await field.ask(logprobs=True)

    assert ("unsupported_parameter", ["fast skipped"]) == (told.code, told.way)


# Rejected answers

FORMAT = {"type": "json_object"}


@virtual
async def test_an_answer_in_the_wrong_form_goes_to_a_better_route() -> None:
    policy = falling("Rejected", accept_when="answer.schemaValid")
    async with on(policy, fast="nonsense! end", safe='{"a":1} end') as field:
        told = await field.ask(response_format=FORMAT)

    assert ("ok", '{"a":1}') == (told.code, told.text)
    assert ["fast rejected", "safe given"] == told.way


REPAIRED = router(
    rule("fast", accept_when="answer.schemaValid", fallback=back("repair", "Rejected")),
    rule("repair", "fast", fallback_only=True, fallback=back("again", "Rejected")),
    rule("again", "fast", fallback_only=True),
)


@virtual
async def test_a_model_is_shown_its_answer_once_and_what_was_wrong_with_it() -> None:
    async with on(REPAIRED, fast=["broken end", '{"a":1} end']) as field:
        told = await field.ask(response_format=FORMAT)

    assert ("ok", '{"a":1}') == (told.code, told.text)
    assert [False, True] == [stage.repair for stage in told.stages]
    assert "broken" in told.request.task.prompt
    assert "not in the form" in told.request.task.prompt


@virtual
async def test_a_repair_that_fails_is_not_repaired_again() -> None:
    async with on(REPAIRED, fast="broken end") as field:
        told = await field.ask(response_format=FORMAT)

    assert "invalid_output" == told.code
    assert ["fast rejected", "repair rejected", "again skipped"] == told.way
    assert 2 == field.asked("fast")


@virtual
async def test_a_very_long_answer_is_not_shown_again() -> None:
    long = "x" * (MENDABLE + 1)
    async with on(REPAIRED, fast=[f"{long} end", '{"a":1} end']) as field:
        told = await field.ask(response_format=FORMAT, max_tokens=2000)

    assert ["fast rejected", "repair skipped", "again skipped"] == told.way


# The verifier

VERIFIED = cascade(
    rule(
        "small",
        accept_when="answer.text.size() > 5 && answer.verifier.score >= 0.7",
        verifier=VerifierBody(model="judge"),
    ),
    rule("large"),
)


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ("=0.7 end", ["small accepted"]),
        ("Score: =1 end", ["small accepted"]),
        ("=0.69 end", ["small rejected", "large given"]),
        ("perfect end", ["small rejected", "large given"]),
        ("7/10 end", ["small rejected", "large given"]),
        ("=1 out of =1 end", ["small rejected", "large given"]),
        ("!500", ["small rejected", "large given"]),
        ("=1.0", ["small rejected", "large given"]),
    ],
)
@virtual
async def test_what_the_verifier_says_decides_and_silence_accepts_nothing(
    said: str, way: list[str]
) -> None:
    async with on(VERIFIED, small="Enough words end", large="Certainly end", judge=said) as field:
        told = await field.ask()

    assert way == told.way


@virtual
async def test_the_verifier_is_asked_only_where_its_score_decides() -> None:
    async with on(VERIFIED, small="No end", large="Certainly end", judge="=1 end") as field:
        told = await field.ask()

    assert (["small rejected", "large given"], 0) == (told.way, field.asked("judge"))


@virtual
async def test_the_verifier_s_work_is_its_own() -> None:
    async with on(VERIFIED, small="Enough words end", judge="Score: =1 end", large="") as field:
        told = await field.ask(stream=True)

    assert ("Enough words", ["small ok", "judge ok"]) == (told.text, told.attempts)
    used = [each.usage.output_tokens for each in told.request.timeline.attempts if each.usage]
    assert [2, 2] == used
    assert 1.0 == told.stages[0].words["answer.verifier.score"]
    assert "Enough words" not in repr(told.stages)


@virtual
async def test_a_verifier_that_never_ends_is_not_read_for_ever() -> None:
    wild = f"{'x' * 5000} 0.5 " * 16
    async with on(VERIFIED, small="Enough words end", judge=wild, large="Certainly end") as field:
        told = await field.ask()

    assert (["small rejected", "large given"], 1.0) == (told.way, told.seconds)
    assert ["small ok", "judge upstream_overrun", "large ok"] == told.attempts
    assert [2, 3, 1] == [
        attempt.usage.output_tokens for attempt in told.request.timeline.attempts if attempt.usage
    ]
