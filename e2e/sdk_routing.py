"""What OpenAI's SDK sees of routes, cascades, stable streams and context rules, in a cluster.

It runs in a process of its own, so that each major of the SDK can be the judge:
`sdk_routing.py BASE_URL API_KEY` makes all checks, and with a model and a text behind it reads one
stream (see `read`). The policies and models are those of `test_6_routing.py`.
"""

import json
import sys
from collections.abc import Callable
from typing import Any, Final

import openai
import pytest
from openai import OpenAI

SMALL: Final = "small"
LARGE: Final = "llama-3-1-8b"
TWINS: Final = "twins"
CLOCK: Final[Any] = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
}


def ask(ai: OpenAI, model: str, *texts: str, **more: Any) -> Any:
    """One question, or the turns of a conversation that begins with the user."""
    roles = ("user", "assistant")
    messages: Any = [{"role": roles[turn % 2], "content": text} for turn, text in enumerate(texts)]
    return ai.chat.completions.with_raw_response.create(model=model, messages=messages, **more)


def led(answer: Any) -> tuple[str, str]:
    """The route that an answer took, and the model that gave it."""
    return answer.headers["x-headgate-route"], answer.headers["x-headgate-model"]


def text(answer: Any) -> str:
    return str(answer.parse().choices[0].message.content)


def streamed(answer: Any) -> tuple[list[str], str | None]:
    """The pieces of text of a stream, and its finish reason."""
    pieces, reason = [], None
    for chunk in answer.parse():
        for choice in chunk.choices:
            if choice.delta.content:
                pieces.append(choice.delta.content)
            reason = choice.finish_reason or reason
    return pieces, reason


def routes_by_feature(ai: OpenAI) -> None:
    hello = "Hello [[sim: tokens 3]]"
    assert led(ask(ai, "assistant", hello)) == ("assistant/fast", SMALL)
    with pytest.raises(openai.BadRequestError) as caught:  # its template knows no tools
        ask(ai, "assistant", hello, tools=[CLOCK])
    assert led(caught.value.response) == ("assistant/tools", LARGE)
    long = "word " * 900 + hello
    assert led(ask(ai, "assistant", long)) == ("assistant/long", LARGE)
    header = {"x-feature": "big"}
    assert led(ask(ai, "assistant", hello, extra_headers=header)) == ("assistant/feature", LARGE)


def keeps_a_session_on_its_side(ai: OpenAI) -> None:
    def side(session: str) -> str:
        header = {"x-session-id": session}
        return led(ask(ai, "split", "Hi [[sim: tokens 1]]", extra_headers=header))[1]

    sides = {session: side(session) for session in map(str, range(24))}
    assert set(sides.values()) == {SMALL, LARGE}
    assert {session: side(session) for session in sides} == sides


def falls_back_on_invalid_json(ai: OpenAI) -> None:
    said = '[[sim: variant small; say "{oops"]] [[sim: variant bf16; json {"n": 5}]]'
    wants: Any = {"type": "json_object"}
    answer = ask(ai, "forms", said, response_format=wants)
    assert led(answer) == ("forms/strong", LARGE)
    assert json.loads(text(answer)) == {"n": 5}
    good = '[[sim: variant small; json {"n": 1}]]'
    assert led(ask(ai, "forms", good, response_format=wants)) == ("forms/fast", SMALL)


def shows_only_the_accepted_answer(ai: OpenAI) -> None:
    said = '[[sim: variant small; say "I am sure."]] [[sim: variant bf16; say "It is 7 [1]."]]'
    evidence = {"context": [{"source": "manual", "text": "The number is 7."}]}
    for stream in (False, True):
        answer = ask(ai, "extract", said, stream=stream, extra_body=evidence)
        assert led(answer) == ("extract/large", LARGE)
        assert ("".join(streamed(answer)[0]) if stream else text(answer)) == "It is 7 [1]."
    cited = '[[sim: variant small; say "It is 7 [1]."]]'
    assert led(ask(ai, "extract", cited, extra_body=evidence)) == ("extract/small", SMALL)


def streams_whole_sentences(ai: OpenAI) -> None:
    said = '[[sim: say "It is 3.14 today. Dr. Who came. Well"; slow 20ms]]'
    pieces, reason = streamed(ask(ai, "assistant", said, stream=True))
    assert "".join(pieces) == "It is 3.14 today. Dr. Who came. Well"
    assert [piece.strip() for piece in pieces] == ["It is 3.14 today.", "Dr. Who came.", "Well"]
    assert reason == "stop"


def gives_a_valid_stream_of_a_buffered_answer(ai: OpenAI) -> None:
    stream = ask(ai, "buffered", "[[sim: tokens 30]]", stream=True)
    options: Any = {"include_usage": True}
    assert streamed(stream)[1] == "stop"
    chunks = list(
        ask(ai, "buffered", "[[sim: tokens 30]]", stream=True, stream_options=options).parse()
    )
    assert chunks[-1].usage.completion_tokens == 30


def stops_at_a_safe_boundary(ai: OpenAI) -> None:
    code = "Look.\\n```python\\nx = 1\\ny = 2\\n" + "z = 3\\n" * 400
    pieces, reason = streamed(ask(ai, "hasty", f'[[sim: say "{code}"; slow 20ms]]', stream=True))
    whole = "".join(pieces)
    assert reason == "length"
    assert whole.startswith("Look.\n```python\nx = 1\n")
    assert whole.count("```") == 2


def refuses_what_is_too_long(ai: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(ai, "narrow", "word " * 2000)
    assert caught.value.code == "context_length_exceeded"


def leaves_out_old_turns(ai: OpenAI) -> None:
    turns = [f"turn {number} " + "word " * 60 for number in range(12)]
    answer = ask(ai, "forgetful", *turns, "Now? [[sim: echo]]")
    told = text(answer)
    assert "turn 0 " not in told
    assert "Now?" in told
    assert answer.headers["x-headgate-context"].startswith("truncated")


def guesses_where_the_route_lets_it(ai: OpenAI) -> None:
    def variant(temperature: float) -> str:
        answer = ask(ai, "guessed", '[[sim: say "As ever."]]', temperature=temperature)
        assert text(answer) == "As ever."
        return str(answer.headers["x-headgate-variant"])

    assert "guessing" in {variant(0) for _ in range(12)}  # some are kept for comparison
    assert {variant(1) for _ in range(4)} == {"plain"}


CHECKS: Final[list[Callable[[OpenAI], None]]] = [
    routes_by_feature,
    keeps_a_session_on_its_side,
    falls_back_on_invalid_json,
    shows_only_the_accepted_answer,
    streams_whole_sentences,
    gives_a_valid_stream_of_a_buffered_answer,
    stops_at_a_safe_boundary,
    refuses_what_is_too_long,
    leaves_out_old_turns,
    guesses_where_the_route_lets_it,
]


def read(ai: OpenAI, model: str, said: str) -> dict[str, Any]:
    """Read a stream to its end: tell that it has begun, wait for a line, and go on."""
    answer = ask(ai, model, said, stream=True)
    told: dict[str, Any] = {"route": answer.headers["x-headgate-route"], "text": ""}
    try:
        for chunk in answer.parse():
            for choice in chunk.choices:
                if choice.delta.content and not told["text"]:
                    print("begun", flush=True)
                    sys.stdin.readline()
                told["text"] += choice.delta.content or ""
                told["reason"] = choice.finish_reason
    except openai.APIError as error:
        told["error"] = error.code
        told["partial_output"] = isinstance(error.body, dict) and error.body["partial_output"]
    return told


if __name__ == "__main__":
    url, key, *one = sys.argv[1:]
    with OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60) as client:
        if one:
            print(json.dumps(read(client, *one)))
        else:
            for check in CHECKS:
                check(client)
            print(openai.__version__.partition(".")[0], len(CHECKS))
