"""A gateway as a process of its own, to be killed: `python -m tests.gateway.lone_gateway`.

Arguments: the folder of its keys, the port of the model server, seconds to be ahead of the clock.
Prints its port once it listens.
"""

import asyncio
import sys
import time
from pathlib import Path

import uvloop

from headgate_api.snapshot import Pointer
from headgate_gateway.calls.ask import Patience
from headgate_gateway.edge.limits import Limits
from headgate_gateway.gateway import Gateway
from headgate_gateway.idempotency.sqlite import SqliteStore
from headgate_gateway.routing.pods import Pods
from headgate_policy.snapshot import compile_shards

from .conftest import MODEL, TENANT, pod


async def serve(folder: Path, upstream: int, ahead: float) -> None:
    pods = Pods(upstream)
    pods.put(pod("pod-1"))
    gateway = Gateway(
        region="here",
        pods=pods,
        limits=Limits(),
        patience=Patience(),
        most=100,
        default_max_tokens=64,
        keys=SqliteStore(folder / "keys.db", most_bytes=2**24, clock=lambda: time.time() + ahead),
    )
    shards = compile_shards([MODEL, TENANT])
    pointer = Pointer(schema=1, epoch=1, sequence=1, shards=shards.digests)
    await gateway.snapshots.swap(pointer, shards.contents)
    await gateway.edge.listen("127.0.0.1", 0)
    print(gateway.edge.port, flush=True)  # noqa: T201 - for whoever started us
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
