"""A variant that guesses ahead says what its plain twin says, in fewer events, and tells of it."""

from collections.abc import Callable

import pytest

from .conftest import LLMAPI, Event, Served

pytestmark = pytest.mark.triton

PROMPT = "Tell me about the sea."
NGRAM = {"type": "ngram", "maxDraftTokens": 3}
Serve = Callable[..., Served]


def told(event: Event) -> tuple[str, str, str]:
    """What the model says of its guesses: in strings, as the real one does."""
    rate, accepted, drafted = (
        event[name]
        for name in ("acceptance_rate", "total_accepted_draft_tokens", "total_draft_tokens")
    )
    return rate, accepted, drafted


async def test_the_text_is_that_of_the_plain_twin_in_fewer_events(serve: Serve) -> None:
    script = f"{PROMPT} [[sim: tokens 100]]"
    _, plain = await serve(LLMAPI, step_ms=1).stream(script)
    _, fast = await serve(LLMAPI, speculative=NGRAM, step_ms=1).stream(script)

    assert LLMAPI.text(plain) == LLMAPI.text(fast)
    # One token for the prompt, then steps of 1 and 70 % of 3 guesses.
    assert (100, 33) == (len(plain), len(fast))


async def test_the_last_event_tells_how_many_guesses_were_right(serve: Serve) -> None:
    served = serve(LLMAPI, speculative=NGRAM, step_ms=1)
    _, events = await served.stream("[[sim: tokens 41; accept 100]]", perf=True)

    assert 11 == len(events)
    assert "acceptance_rate" not in events[0]
    assert ("1.0", "30", "30") == told(events[-1])


async def test_a_script_decides_how_many_are_right(serve: Serve) -> None:
    served = serve(LLMAPI, speculative=NGRAM, step_ms=1)
    for percent, rate in ((0, "0.0"), (50, "0.5"), (100, "1.0")):
        _, events = await served.stream(f"[[sim: tokens 101; accept {percent}]]", perf=True)
        assert rate == told(events[-1])[0]


async def test_who_does_not_ask_is_not_told(serve: Serve) -> None:
    _, events = await serve(LLMAPI, speculative=NGRAM, step_ms=1).stream(PROMPT)
    assert not [event for event in events if "acceptance_rate" in event]


async def test_a_plain_variant_has_guessed_nothing(llmapi: Served) -> None:
    _, events = await llmapi.stream("[[sim: tokens 5; accept 100]]", perf=True)
    assert ("0.0", "0", "0") == told(events[-1])
