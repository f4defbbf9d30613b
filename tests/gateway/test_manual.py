"""docs/errors.md and docs/gateway.md say what the code does."""

import re

from headgate_cluster.files import TREE
from headgate_gateway.refusals import Code
from headgate_gateway.settings import Settings

ERRORS = (TREE / "docs" / "errors.md").read_text()
GATEWAY = (TREE / "docs" / "gateway.md").read_text()


def test_the_manual_explains_every_reason_code_and_no_other() -> None:
    assert sorted(Code) == sorted(re.findall(r"^\| `([a-z_]+)` \|", ERRORS, re.MULTILINE))


def test_the_manual_lists_every_setting_with_its_default() -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \| (\S+) \| (.*) \|$", GATEWAY, re.MULTILINE)
    fields = Settings.model_fields.items()
    defaults = {
        name: "required" if field.is_required() else f"`{field.default}`" for name, field in fields
    }
    expected = [
        (name.upper(), defaults[name] if defaults[name] != "``" else "empty", field.description)
        for name, field in fields
    ]
    assert expected == listed
