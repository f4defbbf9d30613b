"""Model servers in memory, and a clock that jumps: an hour of waiting is a test of milliseconds.

Everything above the socket is real, the connection's protocol and the HTTP parser included.
"""

import asyncio
import json
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from headgate_gateway.calls.upstream import Upstream

T = TypeVar("T")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STOPPED = b'{"error":"Request cancelled by client"}'


class _Jump(selectors.SelectSelector):
    """Moves the clock to the next timer, instead of waiting for it."""

    loop: "JumpingLoop"
    turns = 0  # since time went on

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing that will ever come")
        self.turns = 0 if timeout > 0 else self.turns + 1
        if self.turns > 100_000:
            raise RuntimeError("everybody is busy, and no time goes by")
        self.loop.now += max(0.0, timeout)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    @property
    def timers(self) -> int:
        """How many are set."""
        scheduled: list[asyncio.TimerHandle] = vars(self)["_scheduled"]
        return sum(not timer.cancelled() for timer in scheduled)


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` to its end in virtual time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


class _Socket:
    def setsockopt(self, *option: int) -> None: ...


class Wire(asyncio.Transport):
    """The model server's end of one connection, and the transport of the gateway's."""

    def __init__(self, server: "Server", *, stale: bool = False) -> None:
        super().__init__({"socket": _Socket()})
        self._server = server
        self._stale = stale  # the other side is closed already, and nobody knows
        self._upstream = Upstream()
        self._upstream.connection_made(self)
        self._work: asyncio.Task[None] | None = None
        self._asked: Asked | None = None  # what is being answered
        self._closed = False
        server.open += 1

    @property
    def upstream(self) -> Upstream:
        return self._upstream

    # What the gateway does

    def write(self, data: Any) -> None:
        if self._stale:
            asyncio.get_running_loop().call_soon(self.lose, ConnectionResetError("stale"))
            return
        _, _, body = bytes(data).partition(b"\r\n\r\n")
        loop, fields = asyncio.get_running_loop(), json.loads(body)
        if fields.get("stop"):
            self._server.stopped.append(fields["id"])
            loop.call_soon(self.receive, _answer(400, STOPPED))
            return
        left_ms = fields.get("request_timeout_ms", 0)
        asked = Asked(loop.time(), fields.get("id", ""), left_ms, fields=fields)
        self._server.asked.append(asked)
        self._asked = asked
        self._work = loop.create_task(self._play(self._server.next().split()))

    def abort(self) -> None:
        if self._asked is not None:
            self._asked.left_at = asyncio.get_running_loop().time()
        self.lose(None)

    def close(self) -> None:
        self.abort()

    def is_closing(self) -> bool:
        return self._closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    # What the server does

    def receive(self, data: bytes) -> None:
        if not self._closed:
            self._upstream.data_received(data)

    def lose(self, error: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._server.open -= 1
        if self._work is not None and not self._work.done():
            self._work.cancel()
        asyncio.get_running_loop().call_soon(self._upstream.connection_lost, error)

    async def _play(self, words: Sequence[str]) -> None:
        begun = False
        for word in words:
            if word.replace(".", "").isdigit():
                await asyncio.sleep(float(word))
                continue
            if word in {"end", "cut"} or word.startswith("!"):
                self._asked = None
            if word.startswith("!"):
                self.receive(_refusal(word[1:]))
                return
            if word == "cut":
                self._work = None
                self.lose(ConnectionResetError("reset by the model server"))
                return
            if not begun:
                begun = True
                self.receive(HEAD)
            self.receive(_piece(word))


def _piece(word: str) -> bytes:
    match word:
        case "head":
            return b""
        case "end":
            return b"0\r\n\r\n"
        case "half":
            return _chunk(b'data: {"text_ou')
        case "error":
            return _chunk(b'data: {"error": "no memory"}\n\n')
        case "nonsense":
            return _chunk(b"data: hello\n\n")
        case _:
            said = word if word.startswith("data:") else _data(f"{word} ")
            return _chunk(b"%s\n\n" % said.encode())


def _data(text: str) -> str:
    return f"data: {json.dumps({'text_output': text})}"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _answer(status: int, body: bytes, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _refusal(said: str) -> bytes:
    """`status`, or `status/retry-after`."""
    status, _, after = said.partition("/")
    body = b'{"error":"Exceeds maximum queue size"}' if status == "429" else b"no"
    return _answer(int(status), body, f"retry-after: {after}\r\n" if after else "")


@dataclass(slots=True)
class Asked:
    """One request, as its server saw it."""

    at: float
    id: str
    left_ms: int
    left_at: float | None = None  # when the gateway closed the connection under it
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class Server:
    """Plays its scripts in turn, the last one for ever.

    A script is words: a number is a wait in s, `head` and `end` are those of the answer, `!503` is
    an answer with that status, `cut` resets the connection, `half`, `error` and `nonsense` are
    events of that kind, `data:` begins an event as it is, and any other word is an event with it as
    text. Where the words end, the
    server is silent for ever.
    """

    scripts: Sequence[str]
    dials: Sequence[float | None] = (0.0,)  # s until connected, in turn; None: refused
    asked: list[Asked] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    name: str = ""
    open: int = 0
    dialed: int = 0

    def next(self) -> str:
        return self.scripts[min(len(self.asked), len(self.scripts)) - 1]

    async def accept(self) -> Wire:
        wait = self.dials[min(self.dialed, len(self.dials) - 1)]
        self.dialed += 1
        if wait is None:
            raise ConnectionRefusedError
        await asyncio.sleep(wait)
        return Wire(self)


class Network:
    """Who listens at which address."""

    def __init__(self, servers: dict[str, Server]) -> None:
        self._servers = servers

    async def connect(
        self, protocol: type[Upstream], host: str, port: int
    ) -> tuple[Wire, Upstream]:
        """Stand in for a loop's `create_connection`."""
        wire = await self._servers[host].accept()
        return wire, wire.upstream
