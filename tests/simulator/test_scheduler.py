from math import inf

import pytest
from hypothesis import given, strategies as st

from simulated_llm.answer import Answer
from simulated_llm.prose import Drift
from simulated_llm.scheduler import CHUNK, Event, Scheduler, Sequence
from simulated_llm.script import Script
from simulated_llm.settings import Model, Settings


def scheduler(draft_len: int = 0, **settings: object) -> Scheduler[str]:
    made = Model(Settings(**settings), Drift("", 0.0), step_s=0.01, draft_len=draft_len)
    return Scheduler(made)


def asked(
    name: str, tokens: int = 2, *, prompt: int = 1, script: Script | None = None
) -> Sequence[str]:
    return Sequence(
        name,
        Answer(
            text="x" * tokens,
            ends=tuple(range(1, tokens + 1)),
            finish_reason="stop",
            input_tokens=prompt,
            script=script or Script(),
        ),
    )


def iterate(scheduler: Scheduler[str], now: float = 0.0) -> list[tuple[str, Event]]:
    scheduler.begin(now)
    return [(sequence.client, event) for sequence, event in scheduler.finish(now)]


def test_sequences_of_a_batch_advance_together() -> None:
    batch = scheduler()
    batch.submit(asked("a", 1), 0.0)
    batch.submit(asked("b", 2), 0.0)
    assert [("a", Event.LAST), ("b", Event.NEXT)] == iterate(batch)
    assert [("b", Event.LAST)] == iterate(batch)
    assert batch.idle


def test_an_answer_without_tokens_ends_at_once() -> None:
    batch = scheduler()
    batch.submit(asked("a", 0), 0.0)
    assert [("a", Event.LAST)] == iterate(batch)


def test_whose_time_is_over_is_dropped_be_it_in_the_queue_or_at_work() -> None:
    batch = scheduler(slots=1)
    late, later = asked("a", 5), asked("b")
    late.expires, later.expires = 7.0, 6.0
    for sequence in (late, later):
        batch.submit(sequence, 0.0)
    iterate(batch, 5.0)

    assert 5.0 == batch.next_due(), "the token of the one at work"
    assert [] == batch.expire(5.9)
    assert [later] == batch.expire(6.0)
    assert [late] == batch.expire(7.5)
    assert (0, 0, 0) == (
        batch.counts().scheduled,
        batch.counts().waiting,
        batch.counts().blocks_used,
    )


def test_who_waits_for_nothing_but_its_end_says_when_that_is() -> None:
    batch = scheduler()
    silent = asked("a", script=Script(silent_after=0))
    silent.expires = 3.0
    batch.submit(silent, 0.0)
    iterate(batch)
    assert 3.0 == batch.next_due()


def test_who_has_no_slot_waits_for_one() -> None:
    batch = scheduler(slots=1)
    for name in "abc":
        batch.submit(asked(name, 1), 0.0)
    batch.begin(0.0)
    assert (1, 2) == (batch.counts().scheduled, batch.counts().waiting)
    batch.finish(0.0)
    assert [("b", Event.LAST)] == iterate(batch)
    assert [("c", Event.LAST)] == iterate(batch)


def test_a_full_queue_takes_nobody() -> None:
    batch = scheduler(max_waiting=1)
    assert batch.submit(asked("a"), 0.0)
    assert not batch.submit(asked("b"), 0.0)


def test_who_leaves_makes_room() -> None:
    batch = scheduler(slots=1)
    first, second = asked("a"), asked("b")
    batch.submit(first, 0.0)
    batch.submit(second, 0.0)
    batch.begin(0.0)
    assert batch.drop(first)
    assert not batch.drop(first)
    assert [("b", Event.NEXT)] == iterate(batch)
    assert batch.drop(second)
    assert (True, 0) == (batch.idle, batch.counts().blocks_used)


def test_a_large_request_waits_for_the_cache_and_small_ones_behind_it() -> None:
    batch = scheduler(kv_blocks=2, tokens_per_block=4)
    batch.submit(asked("a", 3), 0.0)
    batch.submit(asked("large", 7), 0.0)
    batch.submit(asked("small", 1), 0.0)
    batch.begin(0.0)
    assert (1, 1, 2) == (
        batch.counts().scheduled,
        batch.counts().blocks_used,
        batch.counts().waiting,
    )


def test_a_request_beyond_the_cache_is_served_alone() -> None:
    batch = scheduler(kv_blocks=1, tokens_per_block=4)
    batch.submit(asked("huge", 1, prompt=100), 0.0)
    assert [("huge", Event.LAST)] == iterate(batch)


@pytest.mark.parametrize(
    ("prompt", "others", "seconds"),
    [
        (1, 0, 0.010 + 0.001 + 1 / 1000),
        (100, 0, 0.010 + 0.001 + 100 / 1000),
        (1, 3, 0.010 + 0.004 + 4 / 1000),
    ],
)
def test_a_step_takes_time_for_itself_the_batch_and_its_prompts(
    prompt: int, others: int, seconds: float
) -> None:
    batch = scheduler(step_ms_per_sequence=1.0, prefill_tokens_per_s=1000.0)
    batch.submit(asked("a", prompt=prompt), 0.0)
    for _ in range(others):
        batch.submit(asked("other"), 0.0)
    assert pytest.approx(seconds) == batch.begin(0.0)


def test_a_long_prompt_is_read_in_chunks_while_others_speak() -> None:
    batch = scheduler()
    batch.submit(asked("talks", 9), 0.0)
    iterate(batch)
    batch.submit(asked("reads", 1, prompt=2 * CHUNK + 1), 0.0)
    batch.begin(0.0)
    assert (1, CHUNK) == (batch.counts().context, batch.counts().context_tokens)
    batch.finish(0.0)
    assert [("talks", Event.NEXT)] == iterate(batch)
    assert [("talks", Event.NEXT), ("reads", Event.LAST)] == iterate(batch)
    assert (0, 0) == (batch.counts().context, batch.counts().context_tokens)


class TestScripts:
    def test_waiting_delays_the_first_token(self) -> None:
        batch = scheduler()
        batch.submit(asked("a", script=Script(wait=5.0)), 0.0)
        assert [] == iterate(batch)  # reads the prompt
        assert batch.begin(1.0) is None
        assert 5.0 == batch.next_due()
        assert [("a", Event.NEXT)] == iterate(batch, 5.0)

    def test_slowness_spaces_tokens(self) -> None:
        batch = scheduler()
        batch.submit(asked("a", script=Script(slow=0.2)), 0.0)
        assert [("a", Event.NEXT)] == iterate(batch)
        assert [] == iterate(batch, 0.1)
        assert [("a", Event.LAST)] == iterate(batch, 0.2)

    def test_a_failure_comes_after_its_tokens(self) -> None:
        batch = scheduler()
        batch.submit(asked("a", 9, script=Script(fail_after=1)), 0.0)
        assert [("a", Event.NEXT)] == iterate(batch)
        assert [("a", Event.FAILURE)] == iterate(batch)
        assert batch.idle

    def test_silence_holds_its_slot_for_ever(self) -> None:
        batch = scheduler()
        batch.submit(asked("a", 9, script=Script(silent_after=1)), 0.0)
        assert [("a", Event.NEXT)] == iterate(batch)
        assert [] == iterate(batch)
        assert (None, inf, 1) == (batch.begin(9e9), batch.next_due(), batch.counts().scheduled)

    def test_death_comes_after_its_tokens(self) -> None:
        batch = scheduler()
        batch.submit(asked("a", 9, script=Script(die_after=0)), 0.0)
        assert [("a", Event.DEATH)] == iterate(batch)


class TestGuesses:
    def test_that_are_right_make_steps_longer_and_fewer(self) -> None:
        batch = scheduler(draft_len=3, draft_ms=1.0, step_ms_per_sequence=1.0)
        one = asked("a", 7, script=Script(accept=100))
        batch.submit(one, 0.0)

        steps = []
        while not batch.idle:
            seconds = batch.begin(0.0)
            batch.finish(0.0)
            steps.append((one.before, one.sent, seconds))

        # 10 ms of its own, 1 ms for each guess, and 4 times what one sequence adds.
        assert [(0, 1), (1, 5), (5, 7)] == [step[:2] for step in steps]
        assert pytest.approx(0.010 + 0.003 + 0.004) == steps[1][2]

    def test_that_are_wrong_bring_nothing(self) -> None:
        batch = scheduler(draft_len=3)
        one = asked("a", 3, script=Script(accept=0))
        batch.submit(one, 0.0)
        assert [Event.NEXT, Event.NEXT, Event.LAST] == [iterate(batch)[0][1] for _ in range(3)]
        assert (6, 0, 0.0) == (one.drafted, one.accepted, one.acceptance)

    @pytest.mark.parametrize("stop", ["fail_after", "silent_after", "die_after"])
    def test_never_pass_what_a_script_stops_at(self, stop: str) -> None:
        batch = scheduler(draft_len=8)
        one = asked("a", 20, script=Script(accept=100, **{stop: 4}))
        batch.submit(one, 0.0)
        assert [("a", Event.NEXT)] == iterate(batch)
        assert [("a", Event.NEXT)] == iterate(batch)
        assert 4 == one.sent

    @given(guesses=st.integers(1, 32), percent=st.integers(0, 100), tokens=st.integers(300, 2000))
    def test_are_right_as_often_as_wanted(self, guesses: int, percent: int, tokens: int) -> None:
        batch = scheduler(draft_len=guesses, acceptance_percent=percent)
        one = asked("a", tokens)
        batch.submit(one, 0.0)
        while not batch.idle:
            before = one.sent
            iterate(batch)
            assert before < one.sent <= before + 1 + guesses
        assert tokens == one.sent
        # The last step may have found more than was left to say.
        assert abs(percent / 100 * one.drafted - one.accepted) <= guesses + 1


@given(
    slots=st.integers(1, 4),
    blocks=st.integers(1, 6),
    draft_len=st.integers(0, 3),
    requests=st.lists(
        st.tuples(st.integers(0, 12), st.integers(1, 600), st.integers(0, 9)), max_size=12
    ),
)
def test_every_request_ends_once_and_nothing_is_left(
    slots: int, blocks: int, draft_len: int, requests: list[tuple[int, int, int]]
) -> None:
    """For requests of (tokens, prompt, iteration of arrival), in any order."""
    batch = scheduler(draft_len, slots=slots, kv_blocks=blocks, tokens_per_block=8)
    ended: list[str] = []
    for round_ in range(1000):
        for number, (tokens, prompt, arrival) in enumerate(requests):
            if arrival == round_:
                batch.submit(asked(str(number), tokens, prompt=prompt), 0.0)
        batch.begin(0.0)
        assert batch.counts().scheduled <= slots
        assert batch.counts().blocks_used <= blocks
        ended += [s.client for s, event in batch.finish(0.0) if event is Event.LAST]
        if round_ > 9 and batch.idle:
            break
    assert sorted(ended, key=int) == [str(number) for number in range(len(requests))]
    assert 0 == batch.counts().blocks_used
