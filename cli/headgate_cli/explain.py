"""`headgate explain`: why a request went as it did, or how one would go."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from headgate_api.errors import TerminalError
from headgate_cli.parsers import Subparsers

DESCRIPTION: Final = """\
Explain a request: which route of which policy took it and why, where it went, what that took and
what it was allowed.

With a REQUEST_ID, the answer's x-request-id, the gateways are asked, which remember their last
requests for some minutes. With --manifests nobody is asked: the request in the file is judged by
the policy in the files, as a gateway would judge it, and no model server is called.
"""
EXAMPLES: Final = """\
examples:
  headgate explain 8c1f0a63be9d4e72-2f1 -n headgate
  headgate explain 8c1f0a63be9d4e72-2f1 --gateway http://127.0.0.1:9090
  headgate explain --manifests policies --request chat.json --tenant acme --header x-plan=gold
"""
ASKING: Final[Mapping[str, object]] = {
    "gateway": None,
    "namespace": "headgate",
    "service_account": "headgate-explain",
}
"""Options for a request that was made, and their defaults."""
REHEARSING: Final[Mapping[str, object]] = {
    "request": None,
    "tenant": None,
    "key_name": None,
    "header": [],
    "at": None,
    "region": "local",
}
"""Options for a request that is not made, and their defaults."""


class Misused(TerminalError):
    """The request, or what is said about it, cannot be right. Exit code 2."""


def add_parser(commands: Subparsers) -> None:
    command = commands.add_parser(
        "explain",
        help="explain a request",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "request_id", nargs="?", metavar="REQUEST_ID", help="the answer's x-request-id"
    )
    command.add_argument(
        "-o", "--output", choices=("words", "json"), default="words", help="how to print (words)"
    )
    _add_asking(command.add_argument_group("a request that was made"))
    _add_rehearsing(command.add_argument_group("a request that is not made"))
    command.set_defaults(run=run)


def _add_asking(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--gateway",
        metavar="URL",
        help="admin port of the gateway, such as http://127.0.0.1:9090; in a cluster it wants a "
        "token, which is read from HEADGATE_TOKEN",
    )
    group.add_argument(
        "-n",
        "--namespace",
        default=ASKING["namespace"],
        help="namespace of the gateways, which are asked through the API server of your "
        "kubeconfig (headgate)",
    )
    group.add_argument(
        "--service-account",
        default=ASKING["service_account"],
        metavar="NAME",
        help="account of that namespace that may read explanations (headgate-explain)",
    )


def _add_rehearsing(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--manifests",
        nargs="+",
        metavar="FILE|DIR",
        help="YAML files with the policy, as `headgate serve` takes them",
    )
    group.add_argument("--request", metavar="FILE", help="the body as JSON; - for standard input")
    group.add_argument("--tenant", help="who asks; needed where there are several")
    group.add_argument("--key-name", metavar="NAME", help="with which key (the tenant's first)")
    group.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="header of the request; again for each further one",
    )
    group.add_argument(
        "--at", type=moment, metavar="TIME", help="when, such as 2026-11-27T09:30:00Z (now)"
    )
    group.add_argument(
        "--region", default=REHEARSING["region"], help="region of the gateway (local)"
    )


def moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        said = f"{text!r} is no time, such as 2026-11-27T09:30:00Z"
        raise argparse.ArgumentTypeError(said) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def run(arguments: argparse.Namespace) -> int:
    try:
        print(_explained(arguments), end="")
    except Misused as error:
        print(f"headgate explain: {error}", file=sys.stderr)
        return 2
    return 0


def _explained(arguments: argparse.Namespace) -> str:
    made, manifests = arguments.request_id, arguments.manifests
    if (made is None) == (manifests is None):
        raise Misused("give either a REQUEST_ID, or --manifests and --request")
    if made == "":  # a variable that nothing was put into
        raise Misused("the REQUEST_ID is empty; it is the x-request-id of an answer")
    if made is not None:
        _alone(arguments, REHEARSING, "--manifests")
        return _asked(arguments)
    _alone(arguments, ASKING, "a REQUEST_ID")
    if arguments.request is None:
        raise Misused("--manifests goes with --request FILE: the body of the request, as JSON")
    return _rehearsed(arguments)


def _alone(arguments: argparse.Namespace, others: Mapping[str, object], to: str) -> None:
    """See that no option was given which would do nothing."""
    for name, default in others.items():
        if getattr(arguments, name) != default:
            raise Misused(f"--{name.replace('_', '-')} goes with {to}")


def _asked(arguments: argparse.Namespace) -> str:
    try:
        from headgate_cli import asking  # noqa: PLC0415 - takes the cluster's client
    except ModuleNotFoundError as error:
        raise TerminalError(f"{error.name} is missing; install headgate[operator]") from error
    name, words = arguments.request_id, arguments.output == "words"
    if arguments.gateway is not None:
        said = asking.gateway(arguments.gateway, name, words=words)
    else:
        work = asking.cluster(arguments.namespace, arguments.service_account, name, words=words)
        said = asyncio.run(work)
    return said if words else f"{json.dumps(json.loads(said), indent=2)}\n"


def _rehearsed(arguments: argparse.Namespace) -> str:
    # Here and not above: a gateway's libraries would slow down every other command.
    try:
        from headgate_cli import rehearsal  # noqa: PLC0415
        from headgate_gateway.explain.words import words  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TerminalError(f"{error.name} is missing; install headgate[cli,gateway]") from error
    asked = rehearsal.Asked(
        body=_body(arguments.request),
        tenant=arguments.tenant,
        key=arguments.key_name,
        headers=dict(map(_header, arguments.header)),
        at=arguments.at or datetime.now(UTC),
    )
    try:
        found = asyncio.run(rehearsal.rehearse(arguments.manifests, arguments.region, asked))
    except rehearsal.Wrong as error:
        raise Misused(str(error)) from error
    if arguments.output == "words":
        return words(found)
    return f"{msgspec.json.format(msgspec.json.encode(found)).decode()}\n"


def _body(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise Misused(f"--request {name}: {error.strerror}") from error


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise Misused(f"--header {text}: write NAME=VALUE")
    return name.lower(), value
