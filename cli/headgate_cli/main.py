"""Entry point of the `headgate` command."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from headgate_api.errors import HeadgateError
from headgate_cli import cluster, explain, keys, serve, validate


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="headgate", description="Run LLMs on Triton and TensorRT-LLM as one governed utility."
    )
    top.add_argument("--version", action="version", version=f"headgate {version('headgate')}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in (serve, validate, explain, keys, cluster):
        module.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a refusal is a sentence on stderr and exit code 1."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except HeadgateError as error:
        print(f"headgate: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
