"""How soon a model server is let go after a client has left in the middle of a stream.

Measured from outside: from the moment the client closes its socket until the kernel knows of no
connection to the model server more than before.
"""

import json
import time
from contextlib import closing
from pathlib import Path
from socket import create_connection
from typing import Any, Final

from bench.gateway_ground import KEY, Ground, GroundError, Server
from bench.report import Figure, percentile

GOAL_MS: Final = 200.0
ESTABLISHED: Final = "01"
LONGEST: Final = 5.0  # s
SETTLE: Final = 5.0
"""s, after which connections that rested from earlier runs are closed: they must not be counted."""


def cancelled(bench: Ground, count: int) -> Figure:
    """Leave `count` streams, one at a time, after their first words."""
    time.sleep(SETTLE)
    took = leave(bench, bench.gateway, count)
    return Figure(
        name="model server let go after a client left, p99",
        value=percentile(took, 0.99),
        unit="ms",
        goal=GOAL_MS,
        yardstick=percentile(leave(bench, bench.nginx, count), 0.99),
        spread=took,
    )


def leave(bench: Ground, server: Server, count: int) -> list[float]:
    """Tell how long each took, in ms."""
    _, port = bench.direct.at["paced"]
    return [_leave_one(server, port) for _ in range(count)]


def _leave_one(server: Server, port: int) -> float:
    body: dict[str, Any] = {"model": "llmapi-paced", "max_tokens": 200, "stream": True}
    body["messages"] = [{"role": "user", "content": "Say something."}]
    content = json.dumps(body, separators=(",", ":"))  # as the mocks read it
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    with closing(create_connection(server.at["paced"], timeout=LONGEST)) as client:
        client.sendall(head.encode() + content.encode())
        while b"data: " not in client.recv(65536):
            pass
        before = _connections_to(port)
    left = time.perf_counter()
    while _connections_to(port) >= before:
        if time.perf_counter() - left > LONGEST:
            raise GroundError(f"{server.name}: a client left, and its stream went on")
    return 1000 * (time.perf_counter() - left)


def _connections_to(port: int) -> int:
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    remote = f":{port:04X}"
    fields = (row.split(maxsplit=4) for row in rows)
    return sum(to.endswith(remote) and state == ESTABLISHED for _, _, to, state, _ in fields)
