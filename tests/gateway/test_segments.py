"""Segments on their own: where text is cut, whatever the pieces in which it came."""

from collections.abc import Sequence
from itertools import pairwise
from math import inf

import msgspec
import pytest
from hypothesis import example, given, strategies as st

from headgate_api.snapshot import StreamingBody
from headgate_gateway.calls.events import Event, Reasoning, Text, ToolCall
from headgate_gateway.streaming.fences import FENCE, Fences
from headgate_gateway.streaming.segments import SETTLED, Segmenter, segmenter

SENTENCES = StreamingBody()
LINES = StreamingBody(boundary="Line")
SIZES = StreamingBody(boundary="Size", max_characters=16)
CALL = ToolCall(0, "call_1", "look_up", "{}")


def cut(events: Sequence[Event], how: StreamingBody = SENTENCES) -> list[Event]:
    """Give these events at one moment, and take all segments."""
    segmenter = Segmenter(how)
    segments = [segment for event in events for segment in segmenter.feed(event, 0.0)]
    return [*segments, *segmenter.finish()]


def said(segments: Sequence[Event]) -> list[str]:
    return [segment.text for segment in segments if isinstance(segment, Text)]


SENTENCE_CASES = {
    "two sentences": "It works. | It is fast.",
    "questions and cries": "Really?! | Yes! | Good.",
    "a quotation": 'He said "stop." | Then he went. | (All of it.) | So.',
    "Markdown's marks": "**It is done.** | *Good.* | `x = foo.` | End.",
    "titles": "Ask Dr. Who or Mrs. Smith. | They know.",
    "abbreviations": "Use a tool, e.g. a saw, etc. and vs. that. | Go.",
    "initials": "J. R. Tolkien wrote it. | In the U.S. it sold at 5 p.m. today.",
    "decimals and versions": "Pi is 3.14 and v1.2.3 is out. | Use 10.0.0.1.",
    "a URL": "See https://a.example/b?c=d.html! | Or a.example.",
    "an ellipsis": "Well... maybe… or not. | Sure.",
    "a figure at the end": "It was 1989. | Then it fell.",
    "lines": "A title\n|No stop here\n|- one\n|- two. | Yes.\n|End",
    "paragraphs": "One.\n|\n\nTwo.\n|\nThree",
    "numbered items": "Do this:\n|1. Sit down. | Wait.\n|  2. Go!\n|- 3. Up\n|**4.** Out.",
    "Chinese and Japanese": "你好。|今天很好！|「はい。」|いいえ。",  # noqa: RUF001 - meant
    "two spaces": "One. | Two.",
    "line ends of Windows": "One.\r\n|Two.\r\n|",
    "white space first": "\n\n  Hello. | You.",
    "only white space": "\n \n",
    "code": "Run:\n|```py\n|x = 1.  # Yes. No.\n|y = 2\n|```\n|Done. | Bye.",
    "code in a list": "- So:\n|   ```\n|   a. b. c.\n|   ```\n|- Yes. | No.",
    "longer fences": "````\n|```\n|A. b. C.\n|````\n|It is. | So.",
    "tildes": "~~~\n|A b. C d.\n|```\n|E f. G h.\n|~~~\n|It is. | So.",
    "backticks in a line": "```no. code``` here. | Yes.",
}
"""Where `|` stands a segment ends; behind a sentence the space before it belongs to it."""


@pytest.mark.parametrize("case", SENTENCE_CASES)
def test_text_is_cut_behind_sentences_and_lines(case: str) -> None:
    expected = [part for part in SENTENCE_CASES[case].replace(" | ", " |").split("|") if part]
    whole = "".join(expected)

    assert expected == said(cut([Text(whole)]))
    assert expected == said(cut([Text(character) for character in whole]))


def test_lines_alone_end_segments_where_a_policy_says_so() -> None:
    assert ["One. Two.\n", "Three. "] == said(cut([Text("One. Two.\nThree. ")], LINES))


def test_size_alone_ends_segments_where_a_policy_says_so() -> None:
    assert ["One. Two. Three ", "four five six ", "seven."] == said(
        cut([Text("One. Two. Three four five six seven.")], SIZES)
    )


SIZE_CASES = {
    "between words": ("to be or not to be, that is", ["to be or not to ", "be, that is"]),
    "before a space": ("sixteen letters, yes", ["sixteen letters,", " yes"]),
    "within a long word": ("a" * 40, ["a" * 16, "a" * 16, "a" * 8]),
    "not within a character": ("0123456789abcde" + "e\u0301x", ["0123456789abcde", "e\u0301x"]),
    "not within an emoji": (
        "0123456789abc\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}!",
        ["0123456789abc", "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}!"],
    ),
    "not within a flag": (
        "0123456789abcde\U0001f1e9\U0001f1ea.",
        ["0123456789abcde", "\U0001f1e9\U0001f1ea."],
    ),
    "behind a line of code": ("```\nx = 1\ny = 234567", ["```\nx = 1\n", "y = 234567"]),
    "not within a fence": ("0123456789abc\n```\nx", ["0123456789abc\n", "```\nx"]),
    "within what nobody could keep whole": (
        "a" + "\u0301" * 40,
        ["a" + "\u0301" * 15, *["\u0301" * 16], "\u0301" * 9],
    ),
}


@pytest.mark.parametrize("case", SIZE_CASES)
def test_text_that_is_too_long_is_cut_at_the_best_place(case: str) -> None:
    text, expected = SIZE_CASES[case]

    assert expected == said(cut([Text(text)], SIZES))
    assert expected == said(cut([Text(character) for character in text], SIZES))


def test_calls_and_reasoning_are_segments_of_their_own() -> None:
    events = [
        *(Reasoning("Let me think. It "), Reasoning("is. ")),
        *(Text("I will look"), CALL, Text(" it up. So"), Reasoning("Hm"), Text(".")),
    ]

    assert [
        *(Reasoning("Let me think. "), Reasoning("It is. ")),
        *(Text("I will look"), CALL, Text(" it up. "), Text("So"), Reasoning("Hm"), Text(".")),
    ] == cut(events)


def test_a_fence_stays_open_while_the_model_thinks() -> None:
    segmenter = Segmenter(SENTENCES)
    for event in (Text("```py\nx = 1\n"), Reasoning("``` No. Yes. "), Text("A. b. C\n")):
        segmenter.feed(event, 0.0)

    assert "```\n" == segmenter.close


def test_log_probabilities_go_with_their_text() -> None:
    tokens = ["It", " is", ".", " So", " be", " it", "."]
    raw = [msgspec.Raw(msgspec.json.encode({"token": token, "logprob": -1})) for token in tokens]
    one_by_one = [Text(token, (each,)) for token, each in zip(tokens, raw, strict=True)]
    at_once = [Text("".join(tokens), tuple(raw))]

    for events in (one_by_one, at_once):
        first, second = cut(events)
        assert (Text("It is. ", tuple(raw[:3])), Text("So be it.", tuple(raw[3:]))) == (
            first,
            second,
        )


def test_log_probabilities_that_are_none_are_still_passed_on() -> None:
    raw = (msgspec.Raw(b"1"), msgspec.Raw(b'{"token":7}'))

    assert [Text("Hi.", raw)] == cut([Text("Hi.", raw)])


# What is held for long


def held(how: StreamingBody, *steps: str | float) -> tuple[list[str], float]:
    """Feed texts and let time go by; what has gone when, and when more would be due."""
    segmenter, now = Segmenter(how), 100.0
    gone: list[str] = []
    for step in steps:
        if isinstance(step, float):
            now += step
            while segmenter.due <= now:
                gone += said(segmenter.expire(now))
        else:
            gone += said(segmenter.feed(Text(step), now))
    return gone, round(segmenter.due - now, 3)


HOLD_CASES = {
    "nothing is held": (("Hi. ",), ["Hi. "], inf),
    "not yet due": (("Let", " us", 0.4), [], 0.1),
    "the whole words": (("Let", " u", 0.3, "s se", 0.3), ["Let us "], 0.2),
    "one word": (("Antidis", 0.3, "establish", 0.2), ["Antidisestablish"], inf),
    "a word as old": (("Let us se", 0.5), ["Let us se"], inf),
    "the rest of it later": (("Let", 0.3, " us", 0.2, 0.3), ["Let ", "us"], inf),
    "a sentence that is over": (("It is.", SETTLED), ["It is."], inf),
    "a sentence that goes on": (("It is", ".", 0.01, "5", 0.2), [], 0.29),
    "what may be a number": (("It is 3.", SETTLED), [], 0.5 - SETTLED),
    "what is an abbreviation": (("Ask Dr.", SETTLED), [], 0.5 - SETTLED),
    "a dot in code": (("```\n", "print.", SETTLED), ["```\n"], 0.5 - SETTLED),
    "a quotation that is over": (("(It is.", 0.01, ")", SETTLED), ["(It is.)"], inf),
    "an end in Japanese": (("はい。", SETTLED), ["はい。"], inf),
    "a mark that may grow": (("So:\n\n``", 0.5, "`\n", 0.0), ["So:\n", "\n", "```\n"], inf),
    "nothing but such a mark": (("``", 0.6), [], inf),
    "an emoji that goes on": (("Hi \N{MAN}\u200d", 0.5), ["Hi \N{MAN}\u200d"], inf),
}


@pytest.mark.parametrize("case", HOLD_CASES)
def test_what_is_held_goes_in_time(case: str) -> None:
    steps, gone, due = HOLD_CASES[case]

    assert (gone, round(due, 3)) == held(SENTENCES, *steps)


# Stops


STOP_CASES = {
    "nothing": ("", "", ""),
    "behind a sentence": ("It is. ", "", ""),
    "a sentence that may be over": ("It is.", "It is.", ""),
    "prose behind a word": ("It is a mat", "It is a ", ""),
    "not within the first word": ("Antidis", "", ""),
    "a number that may go on": ("It costs 3.", "It costs ", ""),
    "code behind a line": ("```sh\nrm -rf /", "", "```\n"),
    "a mark that begins code": ("So:\n```sh rm", "", ""),
    "a mark that grows": ("So:\n``", "", ""),
    "behind code": ("```\nx\n```\nIt is so", "It is ", ""),
    "with other marks": ("~~~~\nx\n```\ny", "", "~~~~\n"),
}


@pytest.mark.parametrize("case", STOP_CASES)
def test_a_stop_gives_what_is_safe_and_says_what_closes_it(case: str) -> None:
    text, last, close = STOP_CASES[case]
    segmenter = Segmenter(SENTENCES)
    if text:
        segmenter.feed(Text(text), 0.0)

    assert (last, close) == ("".join(said(segmenter.stop())), segmenter.close)
    assert (inf, []) == (segmenter.due, segmenter.finish())


def test_code_whose_line_is_half_given_is_closed_on_a_line_of_its_own() -> None:
    segmenter = Segmenter(SENTENCES)
    segmenter.feed(Text("```\nlong line"), 0.0)
    segmenter.expire(0.5)

    assert ("\n```\n", []) == (segmenter.close, segmenter.stop())


# Whatever comes

PIECES = st.sampled_from(
    [
        *(
            "a",
            "Go",
            " ",
            "  ",
            "\n",
            "\n\n",
            ".",
            ". ",
            "...",
            "!",
            "? ",
            "。",
            "「",
            "」",
            '"',
            ")",
        ),
        *("`", "``", "```", "\n```py\n", "\n```\n", "~~~", "1", "12. ", "Dr", "e.g", "\t", "\r\n"),
        *("\u0301", "\u200d", "\N{MAN}", "\U0001f1e9", "https://a.b/c?d=e", "- ", "> ", "x" * 30),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=60).map("".join), st.text(max_size=200))
HOW = st.builds(
    StreamingBody,
    boundary=st.sampled_from(["Sentence", "Line", "Size"]),
    max_characters=st.integers(16, 80),
    max_hold=st.just(0.5),
)
STEPS = st.lists(st.tuples(PIECES, st.floats(0, 0.7)), max_size=60)


@given(TEXTS, HOW, st.data())
@example("a" * 15 + ".\n", StreamingBody(max_characters=16), None)
def test_segments_depend_on_the_text_and_not_on_its_pieces(
    text: str, how: StreamingBody, data: st.DataObject | None
) -> None:
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=20)) if data else []
    cuts = sorted({0, *places, len(text)})
    pieces = [Text(text[a:b]) for a, b in pairwise(cuts)]
    whole = said(cut([Text(text)] if text else [], how))

    assert text == "".join(whole)
    assert whole == said(cut(pieces, how))
    assert whole == said(cut([Text(character) for character in text], how))
    assert all(len(segment) <= how.max_characters for segment in whole)


@given(STEPS, HOW)
def test_nothing_is_lost_and_nothing_is_held_for_longer_or_in_greater_amount_than_said(
    steps: list[tuple[str, float]], how: StreamingBody
) -> None:
    segmenter, now = Segmenter(how), 0.0
    given: list[str] = []
    came: list[float] = []  # of each character
    for text, pause in steps:
        given += said(segmenter.feed(Text(text), now))
        came += [now] * len(text)
        assert len(came) - len("".join(given)) <= how.max_characters
        now += pause
        while segmenter.due <= now:
            given += said(segmenter.expire(now))
            oldest = came[len("".join(given)) :][:1]
            growing = segmenter._fences.grows(segmenter._held)
            assert growing or not oldest or now - oldest[0] < how.max_hold
    given += said(segmenter.finish())

    assert "".join(text for text, _ in steps) == "".join(given)
    assert all(0 < len(segment) <= how.max_characters for segment in given)
    assert sum(segmenter.causes.values()) == len(given)


@given(STEPS, HOW)
def test_no_fence_is_ever_cut(steps: list[tuple[str, float]], how: StreamingBody) -> None:
    segmenter, now = Segmenter(how), 0.0
    given: list[str] = []
    for text, pause in steps:
        given += said(segmenter.feed(Text(text), now))
        now += pause
        while segmenter.due <= now:
            given += said(segmenter.expire(now))
    given += said(segmenter.finish())
    ends, at = set(), 0
    for segment in given:
        at += len(segment)
        ends.add(at)
    at = 0
    for line in "".join(given).split("\n"):
        found = FENCE.match(line)
        if found is not None and found.end(1) <= how.max_characters:
            assert not ends & set(range(at + found.start(1) + 1, at + found.end(1)))
        at += len(line) + 1


@given(
    st.lists(
        st.one_of(TEXTS.filter(bool).map(Text), TEXTS.filter(bool).map(Reasoning), st.just(CALL)),
        max_size=8,
    )
)
def test_the_order_of_channels_is_kept(events: list[Event]) -> None:
    def merged(events: Sequence[Event]) -> list[tuple[type[Event], str]]:
        told: list[tuple[type[Event], str]] = []
        for event in events:
            text = event.text if isinstance(event, Text | Reasoning) else ""
            if told and told[-1][0] is type(event) and text:
                told[-1] = (type(event), told[-1][1] + text)
            else:
                told.append((type(event), text))
        return told

    assert merged(events) == merged(cut(events))


def test_with_boundary_token_every_piece_goes_as_it_comes() -> None:
    pieces = segmenter(StreamingBody(boundary="Token"))
    told = [Text("Look:\n```py"), Text("\nx ="), Reasoning("hm"), CALL, Text(" 1")]

    assert told == [event for each in told for event in pieces.feed(each, 0.0)]
    assert inf == pieces.due
    assert [] == pieces.stop()
    assert "\n```\n" == pieces.close


@given(st.lists(st.text("`~ >a\n", min_size=1, max_size=6), max_size=20))
@example(["```py\n", *["x = 1\n"] * 200])
def test_with_boundary_token_open_code_is_known_as_if_the_text_had_come_at_once(
    texts: list[str],
) -> None:
    pieces, fences = segmenter(StreamingBody(boundary="Token")), Fences()
    for text in texts:
        pieces.feed(Text(text), 0.0)
    fences.feed("".join(texts))

    assert fences.close == pieces.close
