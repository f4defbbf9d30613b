"""What one request may use in all: stages, verifiers, repairs, retries and hedges share it."""

from typing import Any

import pytest

from headgate_api.snapshot import HedgingBody, RequestLimits, RetryBody, RouteBody, VerifierBody
from headgate_gateway.calls.adapter import Form, Sampling, Task
from headgate_gateway.calls.call import Call
from headgate_gateway.streaming.continued import Continued
from headgate_gateway.values import replaced

from .courses import Field, Told, back, cascade, on, router, rule
from .engine import Ground, virtual
from .virtual import Server

LONG = "answer.text.size() > 5"
ALL = ("Error", "Timeout", "Saturated", "Rejected")
TWO = cascade(rule("small", accept_when=LONG), rule("large"))
SCORED = {
    "accept_when": "answer.verifier.score > 0.5",
    "verifier": VerifierBody(model="judge", max_output_tokens=5),
}
JUDGED = router(
    rule("small", **SCORED, fallback=back("sorry", *ALL)),
    rule("sorry", targets=(), respond="Sorry", fallback_only=True),
)
TASK = Task(
    endpoint="chat/completions",
    prompt="Hello",
    input_tokens=10,
    sampling=Sampling(max_tokens=64),
    body=b"{}",
)


def within(field: Field, *, tokens: int | None = None, calls: int | None = None) -> Field:
    field.limits = RequestLimits(max_total_tokens=tokens, max_calls=calls)
    return field


def granted(field: Field, model: str) -> list[int]:
    """What its servers were told."""
    return [one.fields["max_tokens"] for server in field.servers[model] for one in server.asked]


def read(told: Told) -> int:
    """Tokens of the prompt."""
    return told.request.task.input_tokens


def left(told: Told) -> int | None:
    assert told.request.allowance is not None
    return told.request.allowance.tokens


async def prompt_of(policy: RouteBody) -> int:
    """Count what a model of the policy reads."""
    async with within(on(policy, small="Enough words end"), tokens=10**6) as field:
        return read(await field.ask())


@virtual
async def test_without_limits_nothing_is_counted() -> None:
    async with on(TWO, small="No end", large="Certainly end") as field:
        told = await field.ask()

    assert (None, 0) == (told.request.allowance, read(told))
    assert [64] == granted(field, "large")


@virtual
async def test_all_stages_share_one_budget() -> None:
    prompt = await prompt_of(TWO)
    budget = 2 * prompt + 30
    async with within(on(TWO, small="A b end", large="Certainly not end"), tokens=budget) as field:
        told = await field.ask(max_tokens=20)

    assert ["small rejected", "large given"] == told.way
    assert ([20], [20]) == (granted(field, "small"), granted(field, "large"))
    assert 30 - 2 - 2 == left(told)


@virtual
async def test_a_later_stage_gets_what_is_left() -> None:
    prompt = await prompt_of(TWO)
    budget = 2 * prompt + 9
    async with within(on(TWO, small="A b end", large="Certainly not end"), tokens=budget) as field:
        told = await field.ask(max_tokens=20)

    assert ("ok", "Certainly not") == (told.code, told.text)
    assert ([20], [7]) == (granted(field, "small"), granted(field, "large"))
    assert [20, 7] == [each.granted for each in told.request.timeline.attempts]


@virtual
async def test_a_stage_for_which_nothing_is_left_is_not_asked_and_nobody_else_is() -> None:
    policy = cascade(
        rule("small", accept_when=LONG),
        rule("large", fallback=back("sorry", *ALL)),
        rule("sorry", targets=(), respond="Sorry", fallback_only=True),
    )
    budget = 2 * await prompt_of(policy) + 1
    async with within(
        on(policy, small="No end", large="Certainly not end"), tokens=budget
    ) as field:
        told = await field.ask()

    assert "token_budget_exceeded" == told.code
    assert told.refusal is not None
    assert (429, None) == (told.refusal.status, told.refusal.retry_after)
    assert f"may use {budget} tokens" in told.refusal.message
    assert ["small rejected", "large skipped"] == told.way
    assert "token_budget_exceeded" == told.stages[-1].reason
    assert (0, "") == (field.asked("large"), told.text)


@virtual
async def test_a_call_too_many_is_not_made() -> None:
    async with within(on(TWO, small="No end", large="Certainly end"), calls=1) as field:
        told = await field.ask()

    assert "call_budget_exceeded" == told.code
    assert ["small rejected", "large skipped"] == told.way
    assert 0 == field.asked("large")


@pytest.mark.parametrize("calls", [2, 3])
@virtual
async def test_a_verifier_s_call_counts(calls: int) -> None:
    policy = cascade(rule("small", **SCORED), rule("large"))
    async with within(
        on(policy, small="No end", judge="0.1 =0.1 end", large="Certainly end"), calls=calls
    ) as field:
        told = await field.ask()

    assert ("ok" if calls == 3 else "call_budget_exceeded") == told.code
    assert 1 == field.asked("judge")
    assert calls - 2 == field.asked("large")


@virtual
async def test_an_answer_that_cannot_be_judged_any_more_is_refused_for_that() -> None:
    async with within(on(JUDGED, small="No end", judge="=0.9 end"), calls=1) as field:
        told = await field.ask()

    assert "call_budget_exceeded" == told.code
    assert ["small failed"] == told.way
    assert 0 == field.asked("judge")


@virtual
async def test_a_verifier_reads_and_writes_within_the_budget() -> None:
    budget = await prompt_of(TWO) + 200
    async with within(
        on(JUDGED, small="Enough words end", judge="=0.9 end"), tokens=budget
    ) as field:
        told = await field.ask()

    assert ("ok", "Enough words") == (told.code, told.text)
    spare = left(told)
    assert spare is not None
    assert spare < 200 - 3, "it has read the question and the answer"


@virtual
async def test_a_fixed_answer_uses_nothing() -> None:
    policy = router(
        rule("small", fallback=back("sorry", *ALL)),
        rule("sorry", targets=(), respond="Sorry", fallback_only=True),
    )
    async with within(on(policy, small="!500"), tokens=10**6, calls=1) as field:
        told = await field.ask()

    assert ("ok", "Sorry", 10**6) == (told.code, told.text, left(told))


# The calls of one stage

AGAIN = RetryBody(max_attempts=3, min_concurrent=3)
PATIENT = RetryBody(retry_on=("FirstTokenTimeout",))
HEDGING = HedgingBody(seconds=0.5, max_percent=100)


@virtual
async def test_a_retry_too_many_is_not_made() -> None:
    async with Ground([Server(["!503"]), Server(["Fine end"])]) as ground:
        answer = await ground.ask(retries=AGAIN, limits=RequestLimits(max_calls=1))

    assert ("upstream_unavailable", 0.0) == (answer.code, answer.seconds)
    assert 1 == sum(ground.hits)


@virtual
async def test_a_retry_has_what_the_failure_has_left() -> None:
    async with Ground([Server(["One two cut"]), Server(["Fine end"])]) as ground:
        ground.first()
        answer = await ground.ask(
            stream=False,
            retries=AGAIN,
            task=replaced(TASK, form=Form(arguments={}, hold=True, whole=True)),
            limits=RequestLimits(max_total_tokens=40),
        )

    # Of 40 the first could write 30, and wrote 2. The prompt is read twice.
    assert ["upstream_lost", "ok"] == answer.results
    assert [30, 18] == [attempt.granted for attempt in answer.attempts]


@virtual
async def test_a_connection_that_was_stale_counts_as_no_call() -> None:
    async with Ground([Server(["Fine end"])]) as ground:
        ground.rest(stale=True)
        answer = await ground.ask(limits=RequestLimits(max_calls=1))

    assert ("ok", ["stale", "ok"]) == (answer.code, answer.results)


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        (RequestLimits(max_calls=1), 1),
        (RequestLimits(max_total_tokens=2 * 74 - 1), 1),
        (RequestLimits(max_total_tokens=2 * 74, max_calls=2), 2),
    ],
)
@virtual
async def test_a_hedge_is_made_only_if_its_whole_answer_is_covered(
    limits: RequestLimits, asked: int
) -> None:
    async with Ground([Server(["2 Fine end"]), Server(["2 Fine end"])]) as ground:
        await ground.earn(HEDGING)
        before = sum(ground.hits)
        answer = await ground.ask(hedging=HEDGING, task=TASK, limits=limits)

    assert "ok" == answer.code
    assert asked == sum(ground.hits) - before


@pytest.mark.parametrize(
    ("scripts", "more", "results", "prompts"),
    [
        (("20 Late end", "Fine end"), {"hedging": HEDGING}, ["hedge_lost", "ok"], 2),
        (("", "Fine end"), {"retries": PATIENT}, ["upstream_timeout", "ok"], 2),
        (("cut", "Fine end"), {"retries": AGAIN}, ["upstream_lost", "ok"], 1),
    ],
    ids=["a hedge lost", "a pod stayed silent", "a pod broke"],
)
@virtual
async def test_a_prompt_is_charged_wherever_it_was_read(
    scripts: tuple[str, ...], more: dict[str, Any], results: list[str], prompts: int
) -> None:
    async with Ground([Server([script]) for script in scripts]) as ground:
        await ground.earn(HEDGING)
        answer = await ground.ask(task=TASK, limits=RequestLimits(max_total_tokens=400), **more)

    assert results == answer.results
    (call,) = ground.calls
    assert isinstance(call, Call)
    assert call._ask.allowance is not None
    assert prompts * TASK.input_tokens + len(["Fine"]) == call._ask.allowance.used


@pytest.mark.parametrize(
    ("limits", "code", "text", "written"),
    [
        (RequestLimits(max_calls=1), "upstream_lost", "One two", [64]),
        (RequestLimits(max_total_tokens=24), "upstream_lost", "One two", [14]),
        (RequestLimits(max_total_tokens=40, max_calls=2), "ok", "One two and three", [30, 16]),
    ],
)
@virtual
async def test_who_goes_on_with_an_answer_reads_and_writes_within_the_budget(
    limits: RequestLimits, code: str, text: str, written: list[int]
) -> None:
    async with Ground([Server(["One 0.1 two 0.1 cut"]), Server(["and three end"])]) as ground:
        call = ground.call(task=TASK, limits=limits)
        call.close()
        source = Continued(ground.backends, call._ask, call.tries.timeline)
        told = await ground.read(source)

    assert (code, text) == (told.code, told.text)
    assert written == [attempt.granted for attempt in call.tries.timeline.attempts]
