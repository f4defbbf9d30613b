"""The manual's tables say what the code does."""

import re
from dataclasses import fields

import pytest

from headgate_cluster.files import TREE
from simulated_llm.script import parse
from simulated_llm.settings import PRECISIONS, Settings

MANUAL = (TREE / "docs" / "simulator.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is `heading`, without code marks."""
    table = MANUAL.split(f"\n| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table
    ]


def test_every_setting_stands_there_with_its_default() -> None:
    wanted = [[field.name, str(field.default) or '""'] for field in fields(Settings)]
    assert wanted == [row[:2] for row in rows("`simulation`")]


def test_every_precision_stands_there_with_its_numbers() -> None:
    wanted = [
        [name, f"{precision.step:.0%}", f"{precision.drift:.0%}"]
        for name, precision in PRECISIONS.items()
    ]
    found = [
        [name, *(cell.replace(" ", "") for cell in rest)] for name, *rest in rows("`quantization`")
    ]
    assert wanted == found


@pytest.mark.parametrize("word", [row[0] for row in rows("word")])
def test_every_word_of_a_script_is_understood(word: str) -> None:
    example = re.sub(r"\bN\b", "3", word).replace("VALUE", '{"a": 1}')
    assert parse(f"[[sim: {example.replace('NAME', 'bf16')}]]", "bf16") != parse("")
