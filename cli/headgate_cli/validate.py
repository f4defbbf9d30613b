"""`headgate validate`: judge manifests in files as a cluster would, without one."""

import argparse
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from headgate_api.errors import TerminalError
from headgate_cli.parsers import Subparsers

if TYPE_CHECKING:
    from headgate_cli.manifests.folder import Checked

Checks: TypeAlias = Callable[[Iterable[str], str, datetime], "Checked"]
DESCRIPTION: Final = (
    "Check manifests: the schema and the rules of the CRDs, then everything together as the "
    "operator would decide about it. Exit code 1 when something is wrong."
)


def add_parser(commands: Subparsers) -> None:
    command = commands.add_parser(
        "validate", help="check manifests in files", description=DESCRIPTION
    )
    command.add_argument(
        "path", nargs="+", metavar="FILE|DIR", help="YAML files; of folders, all that are below"
    )
    command.add_argument("--region", default="local", help="region to decide for (local)")
    command.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="how to print (text)"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    checked = checks()(arguments.path, arguments.region, datetime.now(UTC))
    if arguments.output == "json":
        facts = {
            "objects": len(checked.objects),
            "skipped": checked.skipped,
            "findings": [found._asdict() for found in checked.findings],
        }
        print(json.dumps(facts, indent=2))
    else:
        for finding in checked.findings:
            print(finding)
        skipped = f", {checked.skipped} of other kinds skipped" if checked.skipped else ""
        print(f"{len(checked.objects)} objects{skipped}, {len(checked.findings)} findings")
    return 1 if checked.findings else 0


def checks() -> Checks:
    """Import what judges manifests; other commands must not wait for it.

    Raises:
        TerminalError: this installation lacks its libraries.
    """
    try:
        from headgate_cli.manifests.folder import check_manifests  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TerminalError(f"{error.name} is missing; install headgate[cli]") from error
    return check_manifests
