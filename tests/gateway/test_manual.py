"""docs/errors.md, docs/gateway.md and docs/speculation.md say what the code does."""

import ast
import inspect
import itertools
import re
from typing import get_args

import msgspec

from headgate_cluster.files import TREE
from headgate_gateway.explain.speculation import WHY
from headgate_gateway.refusals import Code
from headgate_gateway.routing.stage import Barred, Dealt, Routed
from headgate_gateway.settings import Settings

ERRORS = (TREE / "docs" / "errors.md").read_text()
GATEWAY = (TREE / "docs" / "gateway.md").read_text()
SPECULATION = (TREE / "docs" / "speculation.md").read_text()


def test_the_manual_explains_every_reason_code_and_no_other() -> None:
    assert sorted(Code) == sorted(re.findall(r"^\| `([a-z_]+)` \|", ERRORS, re.MULTILINE))


def test_the_manual_lists_every_setting_with_its_default() -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \| (\S+) \| (.*) \|$", GATEWAY, re.MULTILINE)
    told = described()
    expected = [
        (field.name.upper(), default_of(field), told[field.name])
        for field in msgspec.structs.fields(Settings)
    ]
    assert expected == listed


def default_of(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    return f"`{field.default}`" if str(field.default) else "empty"


def described() -> dict[str, str]:
    """The text below each setting."""
    (body,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(body.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def test_the_manual_and_explanations_know_every_reason_of_speculation() -> None:
    reasons = {*get_args(Barred), *get_args(Dealt), "absent"}
    told = SPECULATION.partition("## What is told")[2]
    cells = re.findall(r"^\| (`[^|]+`) \| [^|]", told, re.MULTILINE)

    assert sorted(reasons | {*get_args(Routed)}) == sorted(re.findall(r"\w+", " ".join(cells)))
    assert reasons == WHY.keys()
