"""The manual's pages on routes: their manifests are good as they stand, beside the examples."""

import re
from pathlib import Path
from typing import Final

import pytest

from headgate_cli.main import main
from headgate_cluster.files import TREE

PAGES: Final = ("cascade", "cel", "context", "explain", "routing", "speculation", "streaming")
MODELS: Final = [str(TREE / "examples" / name) for name in ("quickstart", "routing")]


def manifests(page: str) -> list[str]:
    text = (TREE / "docs" / f"{page}.md").read_text()
    return re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(manifest, id=f"{page}-{number}")
        for page in PAGES
        for number, manifest in enumerate(manifests(page))
    ],
)
def test_a_manifest_of_the_manual_is_good(
    manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(manifest)
    beside = [] if "kind: ModelDeployment" in manifest else MODELS  # it is one of theirs

    code = main(["validate", *beside, str(file)])

    assert (0, "0 findings") == (code, capsys.readouterr().out.rpartition(", ")[2].strip())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_manifest(page: str) -> None:
    assert manifests(page)


def test_the_message_of_the_page_is_that_of_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (TREE / "docs" / "routing.md").read_text()
    (wrong,) = re.findall(r"^(spec\.routes\[long\]\.when: .*)$", page, re.MULTILINE)
    file = tmp_path / "policy.yaml"
    file.write_text(manifests("routing")[0].replace("request.inputTokens", "request.inputToken"))

    main(["validate", *MODELS, str(file)])

    assert f"RoutingPolicy/chat: {wrong}\n" in capsys.readouterr().out
