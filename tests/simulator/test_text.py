import doctest
import itertools
from types import ModuleType

import pytest
from hypothesis import given, strategies as st

from simulated_llm import prose, script
from simulated_llm.answer import Ask, answer
from simulated_llm.prose import Drift
from simulated_llm.script import Script, parse

NO_DRIFT = Drift("", 0.0)
PROMPTS = st.text().filter(lambda text: "[[sim:" not in text)


def ask(prompt: str, max_tokens: int = 1000, **more: object) -> Ask:
    return Ask(prompt=prompt, max_tokens=max_tokens, **more)


@pytest.mark.parametrize("module", [prose, script])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    assert (0, 1) == doctest.testmod(module)


class TestProse:
    def test_this_is_how_it_reads(self) -> None:
        """The text is pinned: people compare runs of different days."""
        wanted = (
            "By evening, a careful pilot shares three simple rules, and nobody minds! "
            "The tide table writes down a story from last winter, and nobody minds."
        )
        assert wanted == "".join(itertools.islice(prose.sentences("hello", 1, NO_DRIFT), 2))

    @given(text=st.text())
    def test_tokens_joined_are_the_text(self, text: str) -> None:
        assert text == "".join(prose.tokens(text))

    @given(text=st.text())
    def test_no_token_is_empty(self, text: str) -> None:
        assert "" not in prose.tokens(text)

    @given(prompt=st.text(), seed=st.integers(0, 2**64 - 1))
    def test_any_prompt_and_seed_has_a_text(self, prompt: str, seed: int) -> None:
        first, second = itertools.islice(prose.sentences(prompt, seed, NO_DRIFT), 2)
        assert first[0].isupper()
        assert second[0] == " "

    def test_drift_rewords_single_phrases_and_keeps_the_order_of_sentences(self) -> None:
        plain = list(itertools.islice(prose.sentences("x", 0, NO_DRIFT), 40))
        drifted = list(itertools.islice(prose.sentences("x", 0, Drift("fp8", 0.05)), 40))
        changed = sum(one != other for one, other in zip(plain, drifted, strict=True))
        assert 0 < changed < 20


class TestAnswer:
    @given(prompt=PROMPTS, limit=st.integers(1, 300), seed=st.integers(0, 9))
    def test_a_limit_cuts_the_same_text(self, prompt: str, limit: int, seed: int) -> None:
        whole = answer(ask(prompt, 1000, seed=seed), NO_DRIFT)
        part = answer(ask(prompt, limit, seed=seed), NO_DRIFT)
        assert whole.text.startswith(part.text)
        assert len(part.ends) == min(limit, len(whole.ends))
        assert part.finish_reason == ("length" if limit < len(whole.ends) else "stop")

    @given(prompt=PROMPTS)
    def test_a_text_ends_by_itself(self, prompt: str) -> None:
        found = answer(ask(prompt, 4096), NO_DRIFT)
        assert "stop" == found.finish_reason
        assert 20 < len(found.ends) < 300

    @given(prompt=PROMPTS, stop=st.text(min_size=1, max_size=2))
    def test_no_stop_word_is_said(self, prompt: str, stop: str) -> None:
        found = answer(ask(prompt, stops=(stop,)), NO_DRIFT)
        assert stop not in found.text
        assert found.text == "".join(found.piece(n, n + 1) for n in range(len(found.ends)))

    def test_the_first_of_several_stop_words_ends_it(self) -> None:
        found = answer(ask('[[sim: say "a b c d"]]', stops=("d", "b", "b c")), NO_DRIFT)
        assert ("a ", "b c", "stop") == (found.text, found.stop_reason, found.finish_reason)

    def test_a_stop_word_before_everything_leaves_nothing(self) -> None:
        found = answer(ask('[[sim: say "abc"]]', stops=("a",)), NO_DRIFT)
        assert ("", ()) == (found.text, found.ends)

    def test_a_text_that_just_fits_ends_by_itself(self) -> None:
        assert "stop" == answer(ask('[[sim: say "a b"]]', 2), NO_DRIFT).finish_reason
        assert "length" == answer(ask('[[sim: say "a b"]]', 1), NO_DRIFT).finish_reason

    def test_a_script_sets_the_length(self) -> None:
        assert 700 == len(answer(ask("[[sim: tokens 700]]"), NO_DRIFT).ends)

    def test_a_limit_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="max_tokens is 0"):
            answer(ask("x", 0), NO_DRIFT)


class TestScript:
    @pytest.mark.parametrize(
        ("markup", "script"),
        [
            ('json {"a": [[1]]}', Script(text='{"a": [[1]]}')),
            ('say "x; y]] z"', Script(text="x; y]] z")),
            ("tool_call {}", Script(text="<tool_call>\n{}\n</tool_call>")),
            ("tokens 40; slow 200ms", Script(tokens=40, slow=0.2)),
            ("wait 1.5s;fail_after 3", Script(wait=1.5, fail_after=3)),
            ("silent", Script(silent_after=0)),
            ("silent_after 2", Script(silent_after=2)),
            ("die", Script(die_after=0)),
            ("die_after 7", Script(die_after=7)),
            ("accept 30", Script(accept=30)),
            ("variant bf16; tokens 2", Script(tokens=2, variant="bf16")),
        ],
    )
    def test_words_can_be_joined(self, markup: str, script: Script) -> None:
        assert script == parse(f"before [[sim: {markup} ]] after", "bf16")

    def test_the_last_markup_counts(self) -> None:
        assert Script(tokens=2) == parse("[[sim: die]] then [[sim: tokens 2]]")

    def test_markup_for_another_variant_is_not_there(self) -> None:
        prompt = "[[sim: tokens 2]] [[sim: variant fp8; die]]"

        assert Script(tokens=2) == parse(prompt, "bf16")
        assert Script(die_after=0, variant="fp8") == parse(prompt, "fp8")

    def test_echo_gives_the_prompt_without_it(self) -> None:
        assert Script(text="a  b", slow=1.0) == parse("a [[sim: echo; slow 1s]] b")

    @given(prompt=PROMPTS)
    def test_no_markup_is_no_script(self, prompt: str) -> None:
        assert Script() == parse(prompt)

    @pytest.mark.parametrize(
        ("markup", "message"),
        [
            ("[[sim: dance]]", "there is no word `dance`"),
            ("[[sim: tokens many]]", "expected a number after `tokens`"),
            ("[[sim: variant]]", "expected a name after `variant`"),
            ("[[sim: slow 3]]", "expected a duration such as 200ms after `slow`"),
            ("[[sim: json {]]", "expected JSON after `json`"),
            ("[[sim: die tokens 3]]", "expected `;` or `]]` after `die`"),
            ("[[sim: die", "expected `;` or `]]` after `die`"),
            ("[[sim:", "expected a word such as `json`"),
        ],
    )
    def test_a_mistake_is_named(self, markup: str, message: str) -> None:
        with pytest.raises(ValueError, match="simulator script: ") as caught:
            parse(markup)
        assert message in str(caught.value)
