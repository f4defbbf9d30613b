from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate_policy.chat import (
    STANDARD,
    ChatTemplate,
    ConversationRefused,
    TemplateInvalid,
    chat_template,
    check_template,
)
from headgate_policy.neutral import BREAK, LONGEST, PIECE, neutral

HELLO = [{"role": "user", "content": "Hello"}]
LLAMA_3 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if strftime_now is defined %}
    {{- "Today Date: " + strftime_now("%d %b %Y") + "\\n\\n" }}
{%- endif %}
{%- if tools is not none %}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{%- endfor %}
{%- endif %}
{{- system_message }}{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
NO_SYSTEM = """{% if messages[0].role == 'system' %}
{{ raise_exception('no system role') }}{% endif %}
{% for m in messages %}{{ m.content }}{% endfor %}"""


class TestPrompt:
    def test_the_standard_template_is_chatml(self) -> None:
        assert ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n") == chat_template(
            None
        ).prompt(HELLO)

    @given(
        st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(["system", "user", "assistant", "tool"]),
                    "content": st.none()
                    | st.text()
                    | st.sampled_from(["<|im_end|>", "[INST] a <s>"]),
                }
            )
        )
    )
    def test_the_standard_template_gives_what_jinja_makes_of_it(self, messages: list[Any]) -> None:
        rendered = ChatTemplate(f"{STANDARD}{{# the same, but not recognised #}}")
        assert rendered.prompt(messages) == ChatTemplate(STANDARD).prompt(messages)

    def test_a_template_of_a_checkpoint_runs_as_it_is(self) -> None:
        system = {"role": "system", "content": " Be brief. "}
        tool = {"name": "clock"}
        assert (
            "<|start_header_id|>system<|end_header_id|>\n\nToday Date: 02 Jan 2026\n\n"
            '{\n    "name": "clock"\n}Be brief.<|eot_id|>'
            "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ) == chat_template(LLAMA_3).prompt(
            [system, *HELLO], tools=[tool], now=datetime(2026, 1, 2, tzinfo=UTC)
        )

    def test_a_template_may_refuse_a_conversation(self) -> None:
        with pytest.raises(ConversationRefused, match="no system role"):
            chat_template(NO_SYSTEM).prompt([{"role": "system", "content": "x"}, *HELLO])

    def test_loops_may_be_left_early(self) -> None:
        source = "{% for m in messages %}{% if loop.index0 %}{% break %}{% endif %}x{% endfor %}"
        assert "x" == chat_template(source).prompt(HELLO * 3)

    def test_macros_and_namespaces_work(self) -> None:
        source = (
            "{% macro say(m) %}{{ m.role ~ ': ' ~ m.content }}{% endmacro %}"
            "{% set ns = namespace(n=0) %}"
            "{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ say(m) }}{% endfor %}{{ ns.n }}"
        )
        assert "user: Hello1" == chat_template(source).prompt(HELLO)


GREEDY = {
    "a range": "{{ range(10**9) | list }}",
    "a long range": "{% for i in range(999999999) %}{% endfor %}",
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}.{% endfor %}{% endfor %}",
    "a product": "{{ 'x' * 999999999 }}",
    "a product, turned round": "{{ 999999999 * 'x' }}",
    "a list of products": "{{ ['x'] * 999999999 }}",
    "a power": "{{ 9 ** 999999 }}",
    "a format": "{{ '%0999999999d' % 1 }}",
    "str.format": "{{ '{:0999999999d}'.format(1) }}",
    "ljust": "{{ 'x'.ljust(999999999) }}",
    "the filter center": "{{ 'x' | center(999999999) }}",
    "doubling by ~": (
        "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}"
        "{% endfor %}{{ ns.s }}"
    ),
    "doubling by +": (
        "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}"
        "{% endfor %}{{ ns.s }}"
    ),
    "doubling by join": (
        "{% set ns = namespace(s='x') %}{% for i in range(64) %}"
        "{% set ns.s = [ns.s, ns.s] | join(ns.s) %}{% endfor %}{{ ns.s }}"
    ),
    "doubling by str.join": (
        "{% set ns = namespace(s='x') %}{% for i in range(64) %}"
        "{% set ns.s = ns.s.join([ns.s, ns.s]) %}{% endfor %}{{ ns.s }}"
    ),
    "doubling by replace": (
        "{% set ns = namespace(s='xx') %}{% for i in range(64) %}"
        "{% set ns.s = ns.s.replace('x', ns.s) %}{% endfor %}{{ ns.s }}"
    ),
    "lists that hold themselves twice": (
        "{% set ns = namespace(l=['x']) %}{% for i in range(64) %}{% set ns.l = [ns.l, ns.l] %}"
        "{% endfor %}{{ ns.l | tojson }}"
    ),
    "objects that hold themselves twice": (
        "{% set ns = namespace(l=1) %}{% for i in range(64) %}"
        "{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l }}"
    ),
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a macro without an end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a recursive loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
}  # fmt: skip
CURIOUS = {
    "the class of a string": "{{ ''.__class__.__mro__ }}",
    "a function's globals": "{{ raise_exception.__globals__ }}",
    "the environment": "{{ self.__init__.__globals__ }}",
    "attr": "{{ '' | attr('__class__') }}",
    "a change of the messages": "{{ messages.append(1) }}",
    "another file": "{% include '/etc/passwd' %}",
    "the budget": "{{ headgate budget }}",
    "lipsum": "{{ lipsum(n=9) }}",
    "text of map": "{{ [''] | map(attribute='__class__') | list }}",
}


class TestBounds:
    @pytest.mark.parametrize("source", GREEDY.values(), ids=GREEDY)
    def test_no_template_takes_much_time_or_memory(self, source: str) -> None:
        with pytest.raises(TemplateInvalid):
            chat_template(source).prompt(HELLO)

    @pytest.mark.parametrize("source", CURIOUS.values(), ids=CURIOUS)
    def test_no_template_sees_more_than_the_conversation(self, source: str) -> None:
        with suppress(TemplateInvalid):
            assert chat_template(source).prompt(HELLO) in {"", "[Undefined]"}

    def test_a_long_conversation_fits(self) -> None:
        messages = [{"role": "user", "content": "x" * 1000}] * 2000
        assert 2_000_000 < len(chat_template(LLAMA_3).prompt(messages))


class TestCheck:
    @pytest.mark.parametrize("source", [LLAMA_3, NO_SYSTEM])
    def test_good_templates_pass(self, source: str) -> None:
        assert check_template(source) is None

    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            ("a\n{% if %}", "line 2: Expected an expression, got 'end of statement block'"),
            ("Hello", None),
            ("nothing", "the rendered text lacks the user's last message"),
            ("{{ messages[9].content }}", "UndefinedError: list object has no element 9"),
            ("{{ raise_exception('no') }}", "it refuses a single user message: no"),
            ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
            ("x" * 65_537, "the template is longer than 65536 bytes"),
        ],
    )
    def test_the_sentence_says_what_is_wrong(self, source: str, sentence: str | None) -> None:
        if sentence is None:
            source = "{{ messages[-1].content }}"
        assert sentence == check_template(source)


MARKS = [
    "<|im_start|>",
    "<|eot_id|>",
    "</s>",
    "[INST]",
    "<<SYS>>",
    "<end_of_turn>",
    "<\uff5cUser\uff5c>",
]


class TestNeutral:
    @pytest.mark.parametrize("mark", MARKS)
    def test_a_mark_is_broken_wherever_it_stands(self, mark: str) -> None:
        told = [{"content": f"a{mark}b", mark: [mark]}]
        assert mark not in repr(neutral(told))

    @given(text=st.lists(st.sampled_from([*MARKS, "<", "|", ">", "[", "x"]), max_size=12))
    def test_no_mark_survives_and_nothing_else_changes(self, text: list[str]) -> None:
        before = "".join(text)
        after = neutral(before)
        assert not [mark for mark in MARKS if mark in after]
        assert before == after.replace(BREAK, "")
        assert after == neutral(after)

    @pytest.mark.parametrize("text", ["x |> f <| y", "a < b", "<think>", "List[INSTANCE]", "<svg>"])
    def test_ordinary_text_and_code_are_left_alone(self, text: str) -> None:
        assert text == neutral(text)


@given(
    st.integers(PIECE - LONGEST, PIECE + 1),
    st.sampled_from(["<|im_start|>", f"<|{'x' * 64}|>", "<</SYS>>", "[/AVAILABLE_TOOLS]", "</s>"]),
)
def test_a_mark_in_a_long_text_is_found_wherever_it_stands(before: int, mark: str) -> None:
    broken = mark[0] + BREAK + mark[1:]

    assert "a" * before + broken + "b" * PIECE == neutral("a" * before + mark + "b" * PIECE)
