"""`headgate serve`: run a gateway in this process."""

import argparse

from headgate_cli.parsers import Subparsers


def add_parser(commands: Subparsers) -> None:
    command = commands.add_parser(
        "serve",
        help="run a gateway",
        description="Run a gateway. Its settings are the variables HEADGATE_GATEWAY_*.",
    )
    command.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    # Here and not above: a gateway's libraries would slow down every other command.
    from headgate_gateway.main import main  # noqa: PLC0415

    main()
    return 0
