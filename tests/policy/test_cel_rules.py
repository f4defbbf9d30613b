from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings, strategies as st

from headgate_policy.cel import ACCEPT, WHEN, Rules, Told, compile_rule

from .cel_expressions import HEADERS, expressions, features

NAMES = st.sampled_from(["'a'", "'ab'", "'B'"])
KEYS = st.one_of(
    st.builds("{} == {}".format, st.sampled_from(["request.model", "tenant.name"]), NAMES),
    st.builds("{1} == {0}".format, st.sampled_from(["request.model", "tenant.name"]), NAMES),
    st.builds("request.model in [{}, {}]".format, NAMES, NAMES),
    st.builds("request.model == {} && tenant.name == {}".format, NAMES, NAMES),
    st.builds("(request.model == {} || tenant.name == {})".format, NAMES, NAMES),
)
RULES = st.one_of(
    st.none(),
    KEYS,
    st.builds("{} && {}".format, KEYS, expressions(deep=1)),
    st.builds("({}) || {}".format, expressions(deep=1), KEYS),
    expressions(deep=1),
).map(lambda rule: rule and rule.replace("dyn(", "("))


def rules_of(*written: str | None) -> Rules:
    return Rules(
        [None if rule is None else compile_rule(rule, WHEN, headers=HEADERS) for rule in written]
    )


@settings(max_examples=300)
@given(st.lists(RULES, max_size=12), st.lists(features(), min_size=1, max_size=5))
def test_the_first_rule_that_holds_is_found_as_if_all_were_tried_in_turn(
    written: list[str | None], requests: list[SimpleNamespace]
) -> None:
    rules = rules_of(*written)
    for request in requests:
        holding = (
            at
            for at, rule in enumerate(written)
            if rule is None or compile_rule(rule, WHEN, headers=HEADERS).holds(request)
        )
        assert next(holding, None) == rules.first(request)


class Counted:
    """Features that note which of them were read."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.read.append(name)
        return self.values[name]


def test_rules_for_other_tenants_and_models_are_not_even_looked_at() -> None:
    rules = rules_of(
        *(f"tenant.name == 't{n}' && request.language == 'de'" for n in range(62)),
        "request.model == 'm' && request.turns > 1",
        "request.model in ['n', 'o'] && request.stream",
    )
    request = Counted(tenant_name="t7", request_model="p", request_language="en")
    assert rules.first(request) is None
    assert ["request_model", "tenant_name", "tenant_name", "request_language"] == request.read


def test_a_word_is_read_only_if_it_decides() -> None:
    rule = compile_rule("request.stream && request.codeShare > 0.5", WHEN)
    request = Counted(request_stream=False)
    assert not rule.holds(request)
    assert ["request_stream"] == request.read


def said(told: Told) -> str:
    outcome = {True: "holds", False: "does not hold", None: "fails"}[told.outcome]
    return f"{outcome}: {'; '.join(map(str, told.because))}"


def told(expression: str, **values: Any) -> str:
    rule = compile_rule(expression, WHEN, headers=HEADERS)
    return said(rule.explain(SimpleNamespace(**values)))


def test_an_explanation_names_the_parts_that_decided_and_what_they_read() -> None:
    assert (
        "does not hold: request.inputTokens > 6000 is false (request.inputTokens is 812)"
        == told(
            "request.stream && request.inputTokens > 6000",
            request_stream=True,
            request_inputTokens=812,
        )
    )
    assert "holds: user.tier == 'gold' is true (user.tier is 'gold')" == told(
        "request.stream || user.tier == 'gold'", request_stream=False, user_tier="gold"
    )
    assert "holds: request.stream is false" == told("!request.stream", request_stream=False)
    assert "holds: request.stream is true; now.hour < 8 is true (now.hour is 7)" == told(
        "request.stream ? now.hour < 8 : now.hour < 6", request_stream=True, now_hour=7
    )
    assert (
        "does not hold: request.headers['x-a'] == 'mix' is false (request.headers['x-a'] is 'no')"
        == told("request.headers['x-a'] == 'mix'", request_headers={"x-a": "no", "x-b": "b"})
    )


def test_an_explanation_of_an_error_says_what_was_missing() -> None:
    assert "fails: request.headers['x-a'] == 'mix': no value for the header x-a" == told(
        "request.stream && request.headers['x-a'] == 'mix'",
        request_stream=True,
        request_headers={},
    )
    rule = compile_rule("answer.logprob.mean > -0.4 && answer.schemaValid", ACCEPT)
    answer = SimpleNamespace(answer_logprob_mean=None, answer_schemaValid=True)
    assert "fails: answer.logprob.mean > -0.4: no value for answer.logprob.mean" == said(
        rule.explain(answer)
    )


def test_an_explanation_has_no_text_of_an_answer_and_only_the_beginning_of_long_values() -> None:
    rule = compile_rule("answer.text.contains('refund')", ACCEPT)
    assert (
        "holds: answer.text.contains('refund') is true (answer.text is 20 characters long)"
        == said(rule.explain(SimpleNamespace(answer_text="your refund, John Doe"[:20])))
    )
    long = said(compile_rule("user.name == 'a'", WHEN).explain(SimpleNamespace(user_name="x" * 99)))
    assert f"does not hold: user.name == 'a' is false (user.name is '{'x' * 60}...)" == long
    tools = compile_rule("'a' in request.tools", WHEN)
    listed = said(tools.explain(SimpleNamespace(request_tools=tuple("bcd" * 40))))
    assert listed.endswith(
        "(request.tools is ['b', 'c', 'd', 'b', 'c', 'd', 'b', 'c', 'd', 'b', 'c', 'd', ...)"
    )


def test_a_rule_without_an_expression_holds() -> None:
    assert 0 == rules_of(None).first(SimpleNamespace())
    assert rules_of().first(SimpleNamespace()) is None
