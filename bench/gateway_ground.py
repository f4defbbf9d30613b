"""What the gateway's benchmark stands on: mocks and load in C, yardsticks, a core for each side.

The server under test has one core, the mocks and the load have another: their work is not its.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_connection
from typing import Any, Final, NamedTuple

from bench.programs import ROOT, Program, image_python
from headgate_cluster.files import cache_root, digest_of
from headgate_cluster.processes import free_ports

LOCAL: Final = "127.0.0.1"
MOCKS: Final = ("127.0.0.2", "127.0.0.3")
"""Each mock runs twice: there is another one to balance over, to retry and to hedge with."""
SOURCES: Final = ROOT / "bench" / "http"
KEY: Final = "hg_the-key-of-the-benchmark-0123456789"  # as in http/manifests
DIALECTS: Final = ("llmapi", "ensemble", "trtllm")


class Pace(NamedTuple):
    """How a mock writes."""

    interval: int  # microseconds between two writes
    words: int  # in each
    sentence: int = 0  # words; 0: it makes none


PACES: Final[Mapping[str, Pace]] = {
    "whole": Pace(0, 4096),  # the whole answer in one write
    "fast": Pace(0, 1),  # one word a write, no pause
    "paced": Pace(20_000, 1),
}
MODELS: Final = {
    f"{dialect}-{pace}": pace
    for dialect in DIALECTS
    for pace in PACES
    if pace != "paced" or dialect == "llmapi"
}
"""The models of http/manifests, and their paces."""
MANIFESTS: Final = SOURCES / "manifests"
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
    traced: Server  # another gateway, which exports a trace of every request
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
            said = server.program.log.read_text().splitlines()[-2000:] if server.program else []
            wrong = next((line for line in said if '"level":"error"' in line), "")
            raise GroundError(f"{server.name}: answers {found['statuses']}\n{wrong}")
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


def nginx_configuration(ports: Mapping[str, int], mocks: Mapping[str, int]) -> str:
    servers = "".join(
        f"upstream {pace} {{ {_each('server', pace, mocks, ';')} keepalive 1024; }}\n"
        f"server {{ listen {LOCAL}:{port}; location / {{ proxy_pass http://{pace}; }} }}\n"
        for pace, port in ports.items()
    )
    return f"""daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
access_log off; tcp_nodelay on; keepalive_requests 1000000000;
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
{servers}}}
"""


def haproxy_configuration(ports: Mapping[str, int], mocks: Mapping[str, int]) -> str:
    sections = "".join(
        f"listen {pace}\n  bind {LOCAL}:{port}\n{_each('  server m%d', pace, mocks, chr(10))}"
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


def _each(word: str, pace: str, mocks: Mapping[str, int], end: str) -> str:
    """One line of a configuration for each mock of a pace."""
    words = (word % n if "%" in word else word for n in range(len(MOCKS)))
    return "".join(f"{w} {host}:{mocks[pace]}{end}" for w, host in zip(words, MOCKS, strict=True))


@dataclass(slots=True)
class Starter:
    """Starts programs on a core of their own."""

    folder: Path
    stack: ExitStack
    paces: Mapping[str, Pace] = field(default_factory=lambda: PACES)

    def start(self, name: str, core: int, command: Sequence[object], **more: str) -> Program:
        """Start one. Its log goes to a file.

        Args:
            name: of the log.
            core: where it runs.
            command: its words.
            more: of its environment.
        """
        path = self.folder / f"{name}.log"
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin", **more}
        with path.open("wb") as log:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment,
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return Program(process, path)

    def mocks(self, core: int) -> dict[str, int]:
        """Start all mocks; return their ports by pace."""
        ports = self._ports()
        for pace, how in self.paces.items():
            for host in MOCKS:
                command = [build("mock"), host, ports[pace], *how]
                self.start(f"mock-{pace}-{host}", core, command)
                wait_for(host, ports[pace])
        return ports

    def proxy(self, name: str, core: int, mocks: Mapping[str, int]) -> Server:
        ports = self._ports()
        file = self.folder / f"{name}.conf"
        configure = {"nginx": nginx_configuration, "haproxy": haproxy_configuration}[name]
        file.write_text(configure(ports, mocks))
        options = {"nginx": ["-p", self.folder, "-c", file], "haproxy": ["-db", "-f", file]}[name]
        program = self.start(name, core, [name, *options])
        wait_for(LOCAL, ports["whole"])
        return Server(name, {pace: (LOCAL, port) for pace, port in ports.items()}, program)

    def _ports(self) -> dict[str, int]:
        return dict(zip(self.paces, free_ports(len(self.paces)), strict=True))

    def gateway(
        self,
        name: str,
        core: int,
        mocks: Mapping[str, int],
        ear: int,
        manifests: Sequence[Path],
        **settings: object,
    ) -> Server:
        port, admin_port = free_ports(2)
        models = MODELS | {f"llmapi-{pace}": pace for pace in self.paces.keys() - PACES.keys()}
        upstreams = [
            f"{model}=http://{host}:{mocks[pace]}"
            for model, pace in models.items()
            for host in MOCKS
        ]
        python, more = image_python()
        command = [python, "-m", "bench.gateway_process", port, admin_port, ear]
        command += [",".join(map(str, manifests)), *upstreams]
        environment = {f"HEADGATE_GATEWAY_{key}": str(value) for key, value in settings.items()}
        program = self.start(name, core, command, **environment, **more)
        wait_for(LOCAL, port)
        return Server(name, dict.fromkeys(self.paces, (LOCAL, port)), program)


@contextmanager
def ground(
    write: Callable[[Path], Path] | None = None, paces: Mapping[str, Pace] | None = None
) -> Iterator[Ground]:
    """Start everything, and end it.

    Args:
        write: writes more manifests for the gateway into a folder, and says where.
        paces: of more mocks. Each has a model, `llmapi-<pace>`.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise GroundError("two cores are needed, one for the server and one for its surroundings")
    install()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-")))
        starter = Starter(folder, stack, {**PACES, **(paces or {})})
        manifests = [MANIFESTS, write(folder)] if write else [MANIFESTS]
        around, tested = cores[:2]
        mocks = starter.mocks(around)
        ear, other_ear = free_ports(2)
        store = {"IDEMPOTENCY_STORE": "embedded", "IDEMPOTENCY_DIR": folder / "keys"}
        collector = f"http://{MOCKS[0]}:{mocks['whole']}/v1/traces"
        traced = {"TRACE_ENDPOINT": collector, "TRACE_RATIO": "1.0", "TRACE_FOLLOW": "false"}
        yield Ground(
            direct=Server("direct", {pace: (MOCKS[0], port) for pace, port in mocks.items()}),
            nginx=starter.proxy("nginx", tested, mocks),
            haproxy=starter.proxy("haproxy", tested, mocks),
            gateway=starter.gateway("gateway", tested, mocks, ear, manifests, **store),
            traced=starter.gateway("traced", tested, mocks, other_ear, manifests, **traced),
            ear=ear,
            loader=build("load"),
            folder=folder,
            load_core=around,
        )


def wait_for(host: str, port: int) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(OSError), create_connection((host, port), timeout=1):
            return
        time.sleep(0.02)
    raise GroundError(f"nobody listens on {host}:{port}; see the logs")
