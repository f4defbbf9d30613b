from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from headgate_api.errors import Invalid
from headgate_policy.cel import ACCEPT, WHEN, Checked, Problem, Table, check, compile_rule

HEADERS = frozenset({"X-Feature"})


def checked(expression: str, table: Table = WHEN) -> Checked:
    found = check(expression, table, headers=HEADERS)
    assert isinstance(found, Checked), str(found)
    return found


def problem(expression: str, table: Table = WHEN) -> Problem:
    found = check(expression, table, headers=HEADERS)
    assert isinstance(found, Problem)
    return found


def outcome(expression: str, **features: Any) -> bool | None:
    rule = compile_rule(expression, WHEN, headers=HEADERS)
    told = rule.explain(SimpleNamespace(**features)).outcome
    assert (told is True) == rule.holds(SimpleNamespace(**features))
    return told


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (r"'\x41\u00e9\U0001F600\101\n\t\\\'\"\?\`' == 'Aé😀A\n\t\\\'" + "\"?`'", True),
        (r"r'\d' == '\\d'", True),
        ("'''it's''' == \"it's\" && r\"\"\"a\nb\"\"\" == 'a\\nb'", True),
        ("0x1F == 31 && -0x10 == -16 && .5 == 5e-1 && 1.5E1 == 15.0", True),
        ("-9223372036854775808 < -9223372036854775807", True),
        ("1 + 2 * 3 - 4 == 3 && 7 - 2 - 1 == 4 && 2 * 3 % 4 == 2", True),
        ("-7 / 2 == -3 && -7 % 2 == -1 && 7 / -2 == -3", True),
        ("true || false && false", True),
        ("!true == false", True),
        ("false ? false : true ? true : false", True),
        ("1 < 1.5 && 1 == 1.0 && 9007199254740993 > 9007199254740992.0", True),
        ("1.0 / 0.0 > 1e300 && 0.0 / 0.0 != 0.0 / 0.0", True),
        ("'b' > 'a' && 'B' < 'a'", True),
        ("2 in [1, 2] && !(3 in [1, 2]) && 'a' in ['a']", True),
        ("[1, 2][1] == 2 && [[1], [2]][1][0] == 2", True),
        ("size('aé😀') == 3 && [1].size() == 1", True),
        ("'ÉA'.lowerAscii() == 'Éa' && 'éa'.upperAscii() == 'éA'", True),
        ("int('-7') == -7 && int(-1.9) == -1 && double('1e3') == 1000.0", True),
        ("string(-5) + string(true) + string('x') == '-5truex'", True),
        ("[1, 2, 3].filter(i, i > 1).map(i, i * 10) == [20, 30]", True),
        ("[1, 2].all(i, i > 0) && [1, 2].exists(i, i == 2) && [1, 2].exists_one(i, i == 2)", True),
        ("'x'.matches('') && 'abc'.matches('b.') && !'abc'.matches('^b')", True),
        ("true // the rest is a comment", True),
        ("1 / 0 == 1", None),
        ("9223372036854775807 + 1 == 0", None),
        ("-9223372036854775808 / -1 == 0 || -(-9223372036854775808) == 0", None),
        ("int('1.5') == 1", None),
        ("double('nan') == 1.0", None),
        ("int(1e19) == 1", None),
        ("[1][1] == 1", None),
        ("[1][-1] == 1", None),
        ("1 / 0 == 1 || true", True),
        ("false && 1 / 0 == 1", False),
        ("1 / 0 == 1 && 1 / 0 == 2 && false", False),
        ("1 / 0 == 1 || 1 / 0 == 2", None),
        ("[0, 1].exists(i, 1 / i == 1)", True),
        ("[0, 1].all(i, 1 / i == 1)", None),
        ("[0, 1].exists_one(i, 1 / i == 1)", None),
        ("1 / 0 == 1 ? true : true", None),
        ("!(1 / 0 == 1)", None),
    ],
)
def test_a_constant_has_the_value_that_cel_gives_it(expression: str, value: bool | None) -> None:
    assert value is outcome(expression)
    assert (value is True) is checked(expression).constant


def problems() -> Iterator[tuple[Table, str, str]]:
    """Read the table: whose words, an expression, and what is said about it."""
    text = Path(__file__).with_name("cel_problems.txt").read_text(encoding="utf-8")
    for section in text.split("\n## ")[1:]:
        heading, *cases = section.strip("\n").split("\n\n")
        for case in cases:
            *lines, place = case.split("\n")
            column, sentence = place.index("^") + 1, place.partition("^ ")[2]
            line = f"line {len(lines)}, " if len(lines) > 1 else ""
            table = ACCEPT if heading.startswith("acceptWhen") else WHEN
            yield table, "\n".join(lines), f"{line}column {column}: {sentence}"


@pytest.mark.parametrize(("table", "expression", "says"), list(problems()))
def test_a_problem_is_told_at_its_place_with_the_remedy(
    table: Table, expression: str, says: str
) -> None:
    assert says == str(problem(expression, table))


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "column 1: the expression is empty"),
        (
            "(" * 40 + "true" + ")" * 40,
            "column 33: this is nested more than 32 levels deep; split it",
        ),
        (
            "1" + " + 1" * 40 + " > 1",
            "column 127: this is nested more than 32 levels deep; split it",
        ),
        ("true || " + "x" * 1100, "column 1025: an expression has at most 1024 characters"),
    ],
)
def test_an_expression_has_bounds(expression: str, says: str) -> None:
    assert says == str(problem(expression))


@pytest.mark.parametrize(
    ("expression", "always", "says"),
    [
        ("true", True, "column 1: the expression is always true"),
        ("request.inputTokens >= 0", True, "column 1: the expression is always true"),
        (
            "request.stream || 2 > 1",
            True,
            "column 19: 2 > 1 is always true, so the expression is always true",
        ),
        (
            "request.stream && now.hour > 23",
            False,
            "column 19: now.hour > 23 is never true, so the expression is never true",
        ),
        (
            "request.stream && (1 > 2 || now.hour == 24)",
            False,
            "column 19: (1 > 2 || now.hour == 24) is never true, so the expression is never true",
        ),
        ("23 < now.hour", False, "column 1: the expression is never true"),
        ("request.temperature > 2", False, "column 1: the expression is never true"),
        ("1 / 0 > 1", False, "column 1: the expression is never true"),
        (
            "request.model == 'a' && request.model == 'b'",
            False,
            "column 1: the expression is never true",
        ),
        ("user.name in ['a'] && 'b' == user.name", False, "column 1: the expression is never true"),
        (
            "(now.hour > 23 ? request.stream : false)",
            False,
            "column 1: the expression is never true",
        ),
    ],
)
def test_a_rule_that_no_request_can_change_is_known(
    expression: str, always: bool, says: str
) -> None:
    assert always is checked(expression).constant
    assert says == str(checked(expression).remark)


@pytest.mark.parametrize(
    "expression",
    [
        "request.inputTokens > 0",
        "request.temperature >= 0",
        "!(request.temperature > 2)",
        "request.codeShare == 1",
        "request.model == 'a' || request.model == 'b'",
        "request.model == 'a' && request.model != 'b'",
        "(request.stream ? false : true)",
    ],
)
def test_a_rule_that_depends_on_the_request_is_not_taken_for_constant(expression: str) -> None:
    assert checked(expression).constant is None
    assert checked(expression).remark is None


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("request.model == 'a'", {"a"}),
        ("'a' == request.model && request.stream", {"a"}),
        ("request.model in ['a', 'b'] && request.model in ['b', 'c']", {"b"}),
        ("request.model == 'a' || request.model == 'b' && request.stream", {"a", "b"}),
        ("request.model == 'a' || request.stream", None),
        ("!(request.model == 'a')", None),
        ("request.model in [user.name]", None),
        ("request.model == user.name", None),
    ],
)
def test_a_rule_says_which_models_it_is_for(expression: str, values: set[str] | None) -> None:
    assert values == checked(expression).required("request.model")


def test_an_expression_says_what_it_reads_and_what_of_it_has_no_value_yet() -> None:
    rule = checked("tenant.budgetUsed > 0.9 || user.tier == 'gold' && has(request.temperature)")
    assert {"tenant.budgetUsed", "user.tier", "request.temperature"} == rule.words
    assert ("tenant.budgetUsed",) == rule.unmeasured


def test_an_absent_value_is_an_error_and_only_has_may_ask_for_it() -> None:
    assert outcome("request.temperature > 0.5", request_temperature=None) is None
    assert outcome("request.temperature > 0.5 || true", request_temperature=None) is True
    guarded = "has(request.temperature) && request.temperature > 0.5"
    assert outcome(guarded, request_temperature=None) is False
    assert outcome(guarded, request_temperature=0.7) is True


def test_a_policy_that_was_not_checked_does_not_compile() -> None:
    with pytest.raises(Invalid, match="when: column 1: there is no model"):
        compile_rule("model == 'a'", WHEN)


TEXT = st.text(st.sampled_from("request.model'\"\\ \n()[]!&|=<>?:+*/%,018") | st.characters())
PIECES = st.lists(
    st.sampled_from(
        [
            *("request.model", "request.tools", "request.turns", "'a'", "1", "2.5", "(", ")", "["),
            *(
                "]",
                " && ",
                " || ",
                "!",
                "-",
                "+",
                "==",
                "<",
                " in ",
                "?",
                ":",
                ",",
                "t",
                ".all(t, ",
            ),
            *(".size()", ".matches(", "has(", "r'", "//", "\n", "\\"),
        ]
    ),
    max_size=200,
).map("".join)


@given(TEXT | PIECES, st.sampled_from([WHEN, ACCEPT]))
@example("!" * 1024, WHEN)
@example("-" * 1024, WHEN)
@example("[" * 1024, WHEN)
@example("(" * 1024, WHEN)
@example("true?" * 204, WHEN)
@example("a." * 512, WHEN)
@example("a[" * 512, WHEN)
@example("a" + "[0]" * 300, WHEN)
@example("f(" * 512, WHEN)
@example("true" + "&&true" * 170, WHEN)
@example("true" + "||true&&true" * 80, WHEN)
@example("1" + "+1" * 500, WHEN)
@example("'" + "\\" * 1000, WHEN)
def test_any_text_is_a_rule_or_has_a_problem_at_a_place_in_it(text: str, table: Table) -> None:
    match check(text, table, headers=HEADERS):
        case Problem() as found:
            assert 0 <= found.offset <= len(text)
            assert found.message
        case found:
            compile_rule(text, table, headers=HEADERS)
            assert found.constant in (True, False, None)
