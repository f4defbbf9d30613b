"""What the gateway's benchmark stands on: mocks and load in C, yardsticks, a core for each side.

The server under test has one core, the mocks and the load have another: their work is not its.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection
from typing import Any, Final

from bench.gateway_process import KEY, MOCKS
from bench.programs import BIN, ROOT, Program
from headgate_cluster.files import cache_root, digest_of
from headgate_cluster.processes import free_ports

LOCAL: Final = "127.0.0.1"
SOURCES: Final = ROOT / "bench" / "http"
PACES: Final[Mapping[str, tuple[int, int]]] = {
    "whole": (0, 4096),  # the whole answer in one write
    "fast": (0, 1),  # one word a write, no pause
    "paced": (20_000, 1),  # one word every 20 ms
}
"""Of the mocks: microseconds between two writes, words in each."""
PACKAGES: Final = {"gcc": "gcc", "nginx": "nginx-light", "haproxy": "haproxy"}


class GroundError(Exception):
    """This machine cannot run the benchmark."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test, or the mocks themselves, and where it listens for each pace."""

    name: str
    at: Mapping[str, tuple[str, int]]
    program: Program | None = None  # None: the mocks


@dataclass(frozen=True, slots=True)
class Ground:
    direct: Server
    nginx: Server
    haproxy: Server
    gateway: Server
    ear: int
    loader: Path
    folder: Path
    load_core: int

    def load(self, server: Server, *options: object, path: str, **body: Any) -> dict[str, Any]:
        """Run the load generator once.

        Returns:
            What it printed, and `cpu`: s that the server computed meanwhile.
        """
        pace = body["model"].rpartition("-")[2]
        file = self.folder / "body.json"
        messages = [{"role": "user", "content": "Say something about the weather in Lisbon."}]
        file.write_text(json.dumps({"messages": messages, **body}, separators=(",", ":")))
        command = [
            *("taskset", "-c", str(self.load_core), str(self.loader)),
            *("-H", f"Authorization: Bearer {KEY}", *map(str, options)),
            *(*map(str, server.at[pace]), path, str(file)),
        ]
        before = server.program.cpu_seconds if server.program else 0.0
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            raise GroundError(f"{server.name}: the load generator says: {done.stderr.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        if found["failures"] or not found["words"]:
            raise GroundError(f"{server.name}: answers {found['statuses']}")
        found["cpu"] = (server.program.cpu_seconds if server.program else 0.0) - before
        return found


def install() -> None:
    """Have the compiler and the yardsticks, which are Debian's."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [package for tool, package in PACKAGES.items() if not shutil.which(tool, path=path)]
    if missing:
        print(f"installing {' '.join(missing)}", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(["apt-get", "install", "-y", "-qq", *missing], check=True, env=quiet)


def build(name: str) -> Path:
    """Compile a program, once for each version of its source, into the cache."""
    sources = [SOURCES / "common.h", SOURCES / f"{name}.c"]
    program = cache_root() / "bench" / digest_of(sources, SOURCES) / name
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        half = program.with_name(f"{name}.{os.getpid()}.half")
        options = ("-O2", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["gcc", *options, "-o", half, sources[1]], check=True)
        half.replace(program)
    return program


def nginx_configuration(ports: Mapping[str, int], mocks: int) -> str:
    servers = "".join(
        f"upstream {pace} {{ server {MOCKS[pace]}:{mocks}; keepalive 1024; }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{pace}; }} }}\n"
        for pace, port in ports.items()
    )
    return f"""daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
access_log off; tcp_nodelay on; keepalive_requests 1000000000;
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
{servers}}}
"""


def haproxy_configuration(ports: Mapping[str, int], mocks: int) -> str:
    sections = "".join(
        f"listen {pace}\n  bind 127.0.0.1:{port}\n  server mock {MOCKS[pace]}:{mocks}\n"
        for pace, port in ports.items()
    )
    # Without http-no-delay each event of a stream waits for up to 0.1 s.
    return f"""global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
{sections}"""


@contextmanager
def ground() -> Iterator[Ground]:
    """Start everything, and end it."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise GroundError("two cores are needed, one for the server and one for its surroundings")
    install()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-")))

        def start(name: str, core: int, command: Sequence[object]) -> Program:
            path = folder / f"{name}.log"
            with path.open("wb") as log:
                process = subprocess.Popen(
                    ["taskset", "-c", str(core), *map(str, command)],
                    stdout=log,
                    stderr=log,
                    cwd=ROOT,
                    env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
                )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return Program(process, path)

        mocks, gateway, ear, *ports = free_ports(3 + 2 * len(PACES))
        for pace, (interval, words) in PACES.items():
            mock = [build("mock"), MOCKS[pace], mocks, interval, words]
            start(f"mock-{pace}", cores[0], mock)
            start_listening(MOCKS[pace], mocks)
        yardsticks = []
        for name, configure in (("nginx", nginx_configuration), ("haproxy", haproxy_configuration)):
            own = {pace: ports.pop() for pace in PACES}
            file = folder / f"{name}.conf"
            file.write_text(configure(own, mocks))
            options = {"nginx": ["-p", folder, "-c", file], "haproxy": ["-db", "-f", file]}[name]
            program = start(name, cores[1], [name, *options])
            start_listening(LOCAL, own["whole"])
            yardsticks.append(Server(name, {p: (LOCAL, own[p]) for p in PACES}, program))
        command = [BIN / "python", "-m", "bench.gateway_process", gateway, ear, mocks]
        program = start("gateway", cores[1], command)
        start_listening(LOCAL, gateway)
        yield Ground(
            direct=Server("direct", {pace: (MOCKS[pace], mocks) for pace in PACES}),
            nginx=yardsticks[0],
            haproxy=yardsticks[1],
            gateway=Server("gateway", dict.fromkeys(PACES, (LOCAL, gateway)), program),
            ear=ear,
            loader=build("load"),
            folder=folder,
            load_core=cores[0],
        )


def start_listening(host: str, port: int) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(OSError), create_connection((host, port), timeout=1):
            return
        time.sleep(0.02)
    raise GroundError(f"nobody listens on {host}:{port}; see the logs")
