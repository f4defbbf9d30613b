"""`headgate keys create`: a Secret with a random API key, for `credentials[].apiKeys.secretRef`."""

import argparse
import asyncio
import base64
import secrets
import sys
from typing import TYPE_CHECKING, Any

from headgate_api.errors import HeadgateError, NotFound, TerminalError
from headgate_cli.parsers import Subparsers
from headgate_kube.resources import SECRETS, TENANT_QUOTAS

if TYPE_CHECKING:
    from headgate_kube.client import Client


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


async def create_key(client: "Client", namespace: str, secret: str, entry: str) -> str:
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


async def why_useless(client: "Client", namespace: str, secret: str) -> str:
    """Say why a key in the Secret lets nobody in yet; empty: a TenantQuota names the Secret."""
    try:
        quotas, _ = await client.list(TENANT_QUOTAS, namespace)
    except HeadgateError as error:
        return f"could not check that a TenantQuota names Secret {namespace}/{secret}: {error}"
    credentials = (c for quota in quotas for c in quota["spec"].get("credentials", ()))
    if any(c["apiKeys"]["secretRef"]["name"] == secret for c in credentials):
        return ""
    return (
        f"no TenantQuota of namespace {namespace} names Secret {secret}: the key works once one "
        "does, in spec.credentials[].apiKeys.secretRef.name"
    )


async def _run(arguments: argparse.Namespace) -> None:
    # Here and not above: it takes 12 MiB, and a gateway is a command, too.
    from headgate_kube.client import Client  # noqa: PLC0415

    client = await Client.connect(user_agent="headgate-cli")
    namespace, secret = arguments.namespace, arguments.secret
    try:
        print(await create_key(client, namespace, secret, arguments.entry), flush=True)
        if warning := await why_useless(client, namespace, secret):
            print(f"headgate: {warning}", file=sys.stderr)
    finally:
        await client.close()


def run(arguments: argparse.Namespace) -> int:
    asyncio.run(_run(arguments))
    return 0
