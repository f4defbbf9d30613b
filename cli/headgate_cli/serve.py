"""`headgate serve`: run a gateway in this process."""

import argparse
import os
from ipaddress import ip_address
from typing import Final

from headgate_api.errors import TerminalError
from headgate_cli.parsers import Subparsers

NAMESPACE: Final = "HEADGATE_GATEWAY_NAMESPACE"
DESCRIPTION: Final = (
    "Run a gateway. In a cluster its settings are the variables HEADGATE_GATEWAY_*. With "
    "--manifests it needs no cluster: policy comes from files, which are followed as they change, "
    "and model servers from --upstream."
)


def add_parser(commands: Subparsers) -> None:
    command = commands.add_parser("serve", help="run a gateway", description=DESCRIPTION)
    local = command.add_argument_group("without a cluster")
    local.add_argument(
        "--manifests",
        nargs="+",
        metavar="FILE|DIR",
        help="YAML files with the four kinds, and the Secrets and ConfigMaps that they name",
    )
    local.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="MODEL[/VARIANT]=URL",
        help="model server of a ModelDeployment, such as llama=http://127.0.0.1:8000; "
        "again for each further one",
    )
    local.add_argument(
        "--host", type=address, default="127.0.0.1", help="address to listen on (127.0.0.1)"
    )
    local.add_argument("--port", type=int, default=8080, help="for requests (8080)")
    local.add_argument("--admin-port", type=int, default=9090, help="for metrics (9090)")
    local.add_argument("--region", default="local", help="region to serve for (local)")
    command.set_defaults(run=run)


def address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as error:
        said = f"{text!r} is no IP address, such as 127.0.0.1, or 0.0.0.0 for all"
        raise argparse.ArgumentTypeError(said) from error


def run(arguments: argparse.Namespace) -> int:
    if arguments.manifests is None and arguments.upstream:
        raise TerminalError("--upstream goes with --manifests")
    if arguments.manifests is None and NAMESPACE not in os.environ:
        raise TerminalError(f"in a cluster {NAMESPACE} is set; without one, give --manifests")
    # Here and not above: a gateway's libraries would slow down every other command.
    try:
        from headgate_gateway import main  # noqa: PLC0415

        if arguments.manifests is not None:
            from headgate_cli import local  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TerminalError(f"{error.name} is missing; install headgate[cli,gateway]") from error
    if arguments.manifests is None:
        main.main()
        return 0
    work = local.serve(
        arguments.manifests,
        [local.upstream(text) for text in arguments.upstream],
        host=arguments.host,
        region=arguments.region,
        port=arguments.port,
        admin_port=arguments.admin_port,
    )
    main.run(work)
    return 0
