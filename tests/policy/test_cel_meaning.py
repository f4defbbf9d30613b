from functools import cache
from types import SimpleNamespace
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings
from hypothesis import assume, event, given, settings

from headgate_policy.cel import WHEN, Checked, check, compile_rule

from .cel_expressions import HEADERS, WORDS, expressions, features, variables

TYPES = {
    "bool": cel.Type.BOOL,
    "int": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "string": cel.Type.STRING,
    "list(string)": cel.Type.List(cel.Type.STRING),
    "map(string)": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
}


@cache
def google() -> Any:
    types = {word: TYPES[str(WHEN.words[word].type)] for word in WORDS}
    types["given"] = cel.Type.BOOL
    return cel.NewEnv(variables=types, extensions=[ext_strings.ExtStrings()])


def said_by_google(expression: str, features: SimpleNamespace) -> bool | None:
    # Variables with dots in their names can have types, but has() is not for them.
    known = variables(features) | {"given": features.request_temperature is not None}
    asked = expression.replace("has(request.temperature)", "given")
    value = google().compile(asked).eval(data=known)
    return None if value.type() == cel.Type.ERROR else value.value()


@settings(max_examples=300)
@given(expressions(), features())
def test_a_rule_means_what_google_says_that_it_means(
    expression: str, features: SimpleNamespace
) -> None:
    ours = expression.replace("dyn(", "(")  # ours compares ints with doubles as they are
    checked = check(ours, WHEN, headers=HEADERS)
    assume(isinstance(checked, Checked))
    said = said_by_google(expression, features)
    event(f"an answer of {said}")
    rule = compile_rule(ours, WHEN, headers=HEADERS)
    assert said is rule.explain(features).outcome
    assert (said is True) is rule.holds(features)


@settings(max_examples=300)
@given(expressions(deep=3), features())
def test_what_is_said_of_a_rule_beforehand_is_true_of_every_request(
    expression: str, features: SimpleNamespace
) -> None:
    ours = expression.replace("dyn(", "(")
    checked = check(ours, WHEN, headers=HEADERS)
    assume(isinstance(checked, Checked))
    holds = compile_rule(ours, WHEN, headers=HEADERS).holds(features)
    event(f"constant: {checked.constant}")
    assert checked.constant in (None, holds)
    assert (checked.remark is None) == (checked.constant is None)
