"""Write what is made from the models: the CRDs, the chart's copies of them, and the reference.

`python -m headgate_api.generate` writes; with `--check` it only names the files that are stale.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from headgate_api import crd, reference
from headgate_api.kinds import KINDS

ROOT: Final = Path(__file__).parents[2]
NOTE: Final = "# Generated from api/headgate_api by `make generate`. Do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """YAML that reads well in a review: no anchors, and text with quotes stands in blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "'" in text or '"' in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def files() -> Mapping[str, str]:
    """Make every generated file: its path in the repository, and its content."""
    made = {}
    for resource in KINDS.values():
        text = NOTE + yaml.dump(crd.crd(resource), Dumper=_Dumper, sort_keys=False, width=100)
        made[f"crds/{resource.plural}.yaml"] = text
        made[f"charts/headgate/files/crds/{resource.plural}.yaml"] = text
    return made | reference.pages(KINDS.values())


def stale(root: Path, made: Mapping[str, str]) -> list[str]:
    """Name the files under `root` that are missing or differ."""
    paths = {path: root / path for path in made}
    return [path for path, at in paths.items() if not at.is_file() or at.read_text() != made[path]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="headgate_api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, name stale files")
    check = parser.parse_args(arguments).check
    made = files()
    changed = stale(ROOT, made)
    for path in changed:
        sys.stdout.write(f"{path} is stale: run make generate\n" if check else f"{path}\n")
        if not check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(made[path])
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
