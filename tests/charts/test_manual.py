"""What the manual says exists: fields, links, commands, targets, reasons."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from headgate_api.conditions import Reason
from headgate_api.kinds import KINDS, unknown_fields
from headgate_api.snapshot import Kind
from headgate_cli.main import parser

from .exported import metric_names
from .helm import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts),
]
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()


def blocks(page: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def examples() -> Iterator[Any]:
    for page in PAGES:
        for block in blocks(page, "yaml"):
            for manifest in yaml.safe_load_all(block):
                if manifest.get("apiVersion", "").startswith("headgate.dev/"):
                    name = f"{page.name}: {manifest['kind']} {manifest['metadata']['name']}"
                    yield pytest.param(manifest, id=name)


def commands(program: str) -> Iterator[str]:
    """Lines that a reader would type: in a console block after `$`, or in backticks."""
    for page in PAGES:
        typed = "\n".join(blocks(page, "console"))
        lines = re.findall(rf"^\$ ({program} .*?)(?:\s+#.*)?$", typed, re.MULTILINE)
        yield from lines
        yield from re.findall(rf"`({program} [^`]+)`", page.read_text())


@pytest.mark.parametrize("manifest", list(examples()))
def test_an_example_has_only_fields_that_exist(manifest: dict[str, Any]) -> None:
    kind = manifest["kind"]
    KINDS[kind].parse(manifest)
    assert () == unknown_fields(kind, manifest)


def test_the_readme_shows_every_kind_once() -> None:
    shown = [yaml.safe_load(block)["kind"] for block in blocks(ROOT / "README.md", "yaml")]
    assert sorted(get_args(Kind)) == sorted(shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = {link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)}
    local = {link for link in links if link and "://" not in link}
    assert [] == sorted(link for link in local if not (page.parent / link).exists())


@pytest.mark.parametrize("line", sorted(set(commands("headgate"))))
def test_a_command_of_ours_is_one(line: str) -> None:
    words = shlex.split(line)[1:]
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{line}: {told.getvalue()}")


@pytest.mark.parametrize("line", sorted(set(commands("make"))))
def test_a_target_of_make_is_one(line: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{re.escape(line.split()[1])}:", makefile, re.MULTILINE)


def test_troubleshooting_knows_every_reason_and_no_other() -> None:
    rows = re.findall(r"^\| ((?:`[A-Z]\w+`(?:, )?)+) \|", TROUBLESHOOTING, re.MULTILINE)
    listed = [word for row in rows for word in re.findall(r"\w+", row)]
    assert sorted(map(str, Reason)) == sorted(listed)


def test_the_manual_lists_every_metric_and_no_other() -> None:
    manual = (ROOT / "docs" / "metrics.md").read_text()
    listed = re.findall(r"^\| `(headgate_\w+)` \|", manual, re.MULTILINE)
    assert sorted(metric_names()) == sorted(listed)
