"""docs/streaming.md: its manifest is good as it stands, and its words are those of the program."""

import re
from pathlib import Path
from typing import Any

import pytest

from headgate_cli.main import main
from headgate_cluster.files import TREE

PAGE = (TREE / "docs" / "streaming.md").read_text()
MANIFESTS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MODELS = [str(TREE / "examples" / name) for name in ("quickstart", "routing")]


def test_the_page_has_a_manifest() -> None:
    assert 1 == len(MANIFESTS)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_manifest_of_the_page_is_good(manifest: str, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(manifest)

    code = main(["validate", *MODELS, str(file)])

    assert (0, "8 objects, 0 findings\n") == (code, capsys.readouterr().out)
