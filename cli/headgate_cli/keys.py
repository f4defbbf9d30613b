"""`headgate keys create`: a Secret with a random API key, for `credentials[].apiKeys.secretRef`."""

import argparse
import asyncio
import base64
import secrets
from typing import Any

from headgate_api.errors import NotFound, TerminalError
from headgate_cli.parsers import Subparsers
from headgate_kube.client import Client
from headgate_kube.resources import SECRETS


def add_parser(commands: Subparsers) -> None:
    keys = commands.add_parser("keys", help="make API keys")
    actions = keys.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser(
        "create",
        help="write a Secret with a random key and print the key, once",
        description="Write a random API key into a Secret, as a new entry of it where the Secret "
        "is there already, and print the key. It is shown this once and cannot be read back "
        "through Headgate.",
    )
    create.add_argument("secret", help="name of the Secret that a TenantQuota's secretRef names")
    create.add_argument("--entry", default="key", help="entry name: the key's id in logs (key)")
    create.add_argument("-n", "--namespace", default="default", help="namespace (default)")
    create.set_defaults(run=run)


def new_key() -> str:
    """`hg_` and 160 random bits in base32: 35 characters without any that need quoting."""
    return "hg_" + base64.b32encode(secrets.token_bytes(20)).decode().lower()


async def create_key(client: Client, namespace: str, secret: str, entry: str) -> str:
    """Add an entry to the Secret, which is made when it is not there.

    Raises:
        TerminalError: the entry is there already; a key in use is never replaced.
    """
    key = new_key()
    patch: dict[str, Any] = {"stringData": {entry: key}}
    try:
        found = await client.get(SECRETS, namespace, secret)
    except NotFound:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}} | patch
        await client.create(SECRETS, namespace, body)
        return key
    if entry in found.get("data", {}):
        raise TerminalError(
            f"Secret {namespace}/{secret} has an entry {entry} already; choose another --entry"
        )
    # With the version that was read: of two commands at once, one is told to look again.
    patch["metadata"] = {"resourceVersion": found["metadata"]["resourceVersion"]}
    await client.merge(SECRETS, namespace, secret, patch)
    return key


async def _run(arguments: argparse.Namespace) -> str:
    client = await Client.connect(user_agent="headgate-cli")
    try:
        return await create_key(client, arguments.namespace, arguments.secret, arguments.entry)
    finally:
        await client.close()


def run(arguments: argparse.Namespace) -> int:
    print(asyncio.run(_run(arguments)))
    return 0
