"""`headgate serve --manifests` with an ear (see `bench.gateway`) and many tenants at hand.

Arguments: the data port, the admin port, the ear's port, the manifests with commas between them,
then `--upstream` values. SIGUSR1 swaps
snapshots: the first one brings `TENANTS` tenants, each further one changes a single one of them.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from bench.gateway import Ear
from headgate_api.snapshot import ApiKey, Entry, Identity, Pointer, TenantBody
from headgate_cli.local import Files, authority, upstream
from headgate_cli.manifests.judging import judge
from headgate_gateway import main as gateway_main
from headgate_gateway.gateway import Gateway
from headgate_gateway.settings import Settings, read_settings
from headgate_policy.snapshot import compile_shards, make_entry

REGION: Final = "bench"
TENANTS: Final = 10_000


def tenant(name: str, number: int) -> Entry:
    digest = sha256(f"hg_{number:037d}".encode()).hexdigest()
    body = TenantBody(tenant=name, keys=(ApiKey(sha256=digest, name="key"),))
    identity = Identity(kind="TenantQuota", namespace="bench", name=name)
    return make_entry(identity, uid=f"uid-{name}", generation=1, body=body)


class Turns:
    """One snapshot after the other: those of the files, with many tenants more."""

    def __init__(self, gateway: Gateway, files: Sequence[Entry]) -> None:
        self._snapshots = gateway.snapshots
        many = [tenant(f"tenant-{n}", n) for n in range(1, TENANTS)]
        changing = [tenant("tenant-0", n) for n in (TENANTS, TENANTS + 1)]
        # Compiled ahead: it is the operator's work and not the gateway's.
        self._shards = [compile_shards([*files, *many, each]) for each in changing]
        self._turn = 1

    async def next(self) -> None:
        self._turn += 1
        shards = self._shards[self._turn % 2]
        pointer = Pointer(schema=1, epoch=1, sequence=self._turn, shards=shards.digests)
        missing = self._snapshots.missing(pointer)
        await self._snapshots.swap(pointer, {digest: shards.contents[digest] for digest in missing})


async def serve(settings: Settings, ear: int, manifests: list[str], upstreams: list[str]) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", ear))
    host = "127.0.0.1"
    leads = [upstream(text) for text in upstreams]
    process = gateway_main.Process(
        settings,
        lambda gateway: Files(manifests, REGION, leads, gateway),
        authority(host),
        host=host,
    )
    turns: list[Turns] = []

    async def turn() -> None:
        if not turns:
            judged = await judge(manifests, REGION)
            turns.append(Turns(process.gateway, judged.entries))
        await turns[0].next()

    loop.add_signal_handler(signal.SIGUSR1, lambda: loop.create_task(turn()))
    await process.run(asyncio.Event())


def main() -> None:
    port, admin_port, ear = map(int, sys.argv[1:4])
    settings = read_settings(namespace="bench", region=REGION, port=port, admin_port=admin_port)
    gateway_main.run(serve(settings, ear, sys.argv[4].split(","), sys.argv[5:]))


if __name__ == "__main__":
    main()
