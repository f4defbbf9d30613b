"""docs/cel.md says what the code does."""

import re
from pathlib import Path

import pytest
import yaml

from headgate_policy.cel import ACCEPT, WHEN, Checked, Table, Word, check
from headgate_policy.cel.check import GLOBALS, METHODS
from headgate_policy.cel.parser import DEEPEST, LONGEST

PAGE = (Path(__file__).parents[2] / "docs" / "cel.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def row(word: Word) -> tuple[str, str, str, str]:
    kind = f"{word.type}"
    if word.optional:
        kind += ", may be absent" if word.measured else ", absent as yet"
    elif not word.measured:
        kind += ", not measured yet"
    values = ", ".join(f"`{value}`" for value in word.values)
    match word.least, word.greatest:
        case (None, None):
            pass
        case (least, None):
            values = f"{least} and more"
        case (None, greatest):
            values = f"up to {greatest}"
        case (least, greatest):
            values = f"{least} to {greatest:,}"
    return f"`{word.name}`", kind, values, word.meaning


@pytest.mark.parametrize("table", [WHEN, ACCEPT], ids=lambda table: table.field)
def test_the_manual_lists_every_word(table: Table) -> None:
    lines = re.findall(r"^\| (`[a-z]+\..*) \|$", section(f"Words of `{table.field}`"), re.MULTILINE)
    expected = [" | ".join(row(word)) for word in table.words.values()]
    assert expected == lines


def test_the_manual_lists_every_function() -> None:
    found = re.findall(r"^\| (`.*`) \|", section("What can be done with them"), re.MULTILINE)
    names = {name for cell in found for name in re.findall(r"(\w+)\(", cell)}
    assert {*METHODS, *GLOBALS} == names


def test_the_manual_has_the_limits() -> None:
    limits = section("Limits")
    for number in (LONGEST, DEEPEST, WHEN.budget, ACCEPT.budget):
        assert f"{number:,}" in limits


def test_every_rule_of_the_manual_is_right() -> None:
    examples = section("Rules that work")
    rules = re.findall(r"^\| `(.*)` \|", examples, re.MULTILINE)
    assert len(rules) > 10
    for written in rules:
        rule = written.replace(r"\|", "|")
        found = check(rule, ACCEPT if "answer." in rule else WHEN)
        assert isinstance(found, Checked), f"{rule}: {found}"
        assert found.constant is None


def test_every_problem_of_the_manual_is_told_so() -> None:
    told = section("When a rule is refused")
    problems = re.findall(r"^\| `(.*)` \| (.*) \|$", told, re.MULTILINE)
    assert len(problems) > 5
    for rule, says in problems:
        assert says == f"`{check(rule, WHEN, headers={'x-feature'})}`"


def test_the_policy_of_the_manual_has_rules_that_are_right() -> None:
    policy = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])
    spec = policy["spec"]
    for route in spec["routes"]:
        for table in (WHEN, ACCEPT):
            if table.field in route:
                found = check(route[table.field], table, headers=spec["matchHeaders"])
                assert isinstance(found, Checked), str(found)
