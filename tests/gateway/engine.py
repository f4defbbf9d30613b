"""The call engine on its own: model servers in memory, time that jumps, and no leaks allowed."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, ParamSpec, Self
from unittest.mock import patch

from headgate_api.snapshot import DeadlineBody, HedgingBody, OutlierBody, RequestLimits, RetryBody
from headgate_gateway.calls.adapter import Sampling, Task
from headgate_gateway.calls.allowance import Allowance
from headgate_gateway.calls.ask import Ask, Backends, Patience
from headgate_gateway.calls.call import Call
from headgate_gateway.calls.deadline import Deadline, deadline
from headgate_gateway.calls.events import End, Event, Failed, Text, Waiting
from headgate_gateway.calls.source import Source
from headgate_gateway.calls.traffic import Traffic
from headgate_gateway.refusals import Refusal
from headgate_gateway.routing.pods import Pod, Pods, Pool
from headgate_gateway.routing.speculation import Preferred
from headgate_gateway.streaming.continued import Continued
from headgate_gateway.timeline import Attempt as Record, Timeline

from .conftest import cohort
from .told import trace
from .virtual import Asked, JumpingLoop, Network, Server, Wire, run

P = ParamSpec("P")
POOL: Final = Pool("chat", "uid-llama")
TASK: Final = Task(
    endpoint="chat/completions", prompt="Hello", sampling=Sampling(max_tokens=64), body=b"{}"
)
DEFAULTS: Final = DeadlineBody()
SHORT: Final = DeadlineBody(total=10.0, stream=10.0, first_segment=4.0, idle_token=2.0, reserve=0.5)
FINE: Final = "0.1 Fine end"


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def running(*args: P.args, **more: P.kwargs) -> None:
        run(lambda: test(*args, **more))

    return running


@dataclass
class Answer:
    """What a client would have got of one call."""

    began: float
    timeline: Timeline
    text: str = ""
    code: str = ""  # ok, or the reason
    waits: int = 0  # signs of life
    ended: float = 0.0
    refusal: Refusal | None = None

    @property
    def seconds(self) -> float:
        return round(self.ended - self.began, 2)

    @property
    def attempts(self) -> list[Record]:
        return self.timeline.attempts

    @property
    def results(self) -> list[str]:
        return [record.result for record in self.attempts]


@dataclass
class Ground:
    """Pods in the order given, each with its scripts; the first one is asked first.

    Whatever a test did, at its end nothing may be left: no request in flight, no place taken, no
    timer, no connection.
    """

    servers: list[Server]
    cohorts: Sequence[str] = ("one",)  # of the pods, in turn; the last one of all others
    runtime: str = "triton-python"
    patience: Patience = field(default_factory=Patience)
    pods: Pods = field(default_factory=Pods)
    calls: list[Call | Continued] = field(default_factory=list)
    _patches: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.backends = Backends(
            self.pods, self.patience, clock=lambda: asyncio.get_running_loop().time()
        )
        self.by_name: dict[str, Pod] = {}
        for number, server in enumerate(self.servers, 1):
            name = f"pod-{number}"
            of = self.cohorts[min(number, len(self.cohorts)) - 1]
            pod = Pod(name=name, uid=name, host=name, port=8000, cohort=of, pool=POOL)
            self.by_name[name] = pod
            self.pods.place(("chat", name), pod)
            server.name = name

    @property
    def pod(self) -> Pod:
        return self.by_name["pod-1"]

    @property
    def traffic(self) -> Traffic:
        return self.backends.traffics.of(POOL)

    @property
    def hits(self) -> list[int]:
        return [len(server.asked) for server in self.servers]

    @property
    def asked(self) -> list[Asked]:
        """All requests of all pods, in order."""
        everything = [one for server in self.servers for one in server.asked]
        return sorted(everything, key=lambda one: one.at)

    def first(self, name: str = "pod-1") -> None:
        """Let this pod be the next one of equals."""
        count = len(self.servers)
        self.pods._turn = (int(name.removeprefix("pod-")) - 2) % count

    def rest(self, name: str = "pod-1", *, stale: bool = False) -> None:
        """Let the pod have a connection that was used before."""
        server = self.servers[int(name.removeprefix("pod-")) - 1]
        connection = Wire(server, stale=stale).upstream
        connection.used = True
        self.by_name[name].give_back(connection)

    def call(
        self,
        *,
        stream: bool = True,
        policy: DeadlineBody = DEFAULTS,
        headers: dict[bytes, bytes] | None = None,
        retries: RetryBody | None = None,
        hedging: HedgingBody | None = None,
        outliers: OutlierBody | None = None,
        task: Task = TASK,
        limits: RequestLimits | None = None,
        prefers: Preferred | None = None,
    ) -> Call:
        now = asyncio.get_running_loop().time()
        by_when = deadline(policy, headers or {}, now, stream=stream)
        assert isinstance(by_when, Deadline)
        call = Call(
            self.backends,
            Ask(
                pool=POOL,
                cohorts={name: cohort(name, self.runtime) for name in dict.fromkeys(self.cohorts)},
                prefers=prefers,
                task=task,
                plain=not stream,
                deadline=by_when,
                retries=retries or RetryBody(),
                hedging=hedging,
                outliers=outliers or OutlierBody(),
                allowance=None if limits is None else Allowance(limits),
                id=f"r{len(self.calls)}",
                trace=trace(),
            ),
            Timeline(started=now),
        )
        self.calls.append(call)
        return call

    async def ask(self, **more: Any) -> Answer:
        """Ask and read to the end."""
        return await self.read(self.call(**more))

    async def read(self, call: Call | Continued, pause: float = 0.0) -> Answer:
        """Read to the end; the client takes `pause` s for each piece of text."""
        clock = asyncio.get_running_loop().time
        answer = Answer(clock(), timeline(call))
        try:
            while True:
                match await following(call):
                    case Text(text):
                        assert not answer.code
                        answer.text += text
                        await asyncio.sleep(pause)
                    case Waiting():
                        answer.waits += 1
                    case End():
                        answer.code = "ok"
                        break
                    case Failed(refusal):
                        answer.code, answer.refusal = refusal.code.value, refusal
                        break
                    case other:
                        raise AssertionError(other)
        finally:
            answer.ended = clock()
            call.close()
        answer.text = answer.text.strip()
        return answer

    async def fill(self, count: int = 20, **more: Any) -> list[Answer]:
        """Let so many calls be answered, one after the other: now it is known what is usual."""
        return [await self.ask(**more) for _ in range(count)]

    async def earn(self, hedging: HedgingBody) -> None:
        """Let as many requests go by as earn one hedge."""
        for _ in range(100 // hedging.max_percent):
            self.traffic.earn(hedging)

    async def __aenter__(self) -> Self:
        self._patches.enter_context(reaching({server.name: server for server in self.servers}))
        self.first()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        if error is None:
            await asyncio.sleep(2)  # for what was told to stop
            for pod in self.by_name.values():
                pod.retire()
            await asyncio.sleep(0)
            traffic = self.traffic
            assert (0, 0) == (traffic.active, traffic.retrying)
            assert {0} == {pod.in_flight for pod in self.by_name.values()}
            assert {0} == {server.open for server in self.servers}
            assert 0 == loop.timers
            attempts = [record for call in self.calls for record in timeline(call).attempts]
            assert all(record.ended is not None for record in attempts)
            assert all(record.result for record in attempts)
        self._patches.close()


@contextmanager
def reaching(servers: dict[str, Server]) -> Iterator[None]:
    """Let calls reach servers in memory. Every random pause is half of what it may be."""
    with (
        patch.object(JumpingLoop, "create_connection", Network(servers).connect),
        patch("random.random", lambda: 0.5),
    ):
        yield


def timeline(call: Call | Continued) -> Timeline:
    """What is told of a call later."""
    return call.tries.timeline if isinstance(call, Call) else call._timeline


async def following(call: Source) -> Event:
    """Wait for the next event."""
    while (event := call.take()) is None:
        await call.news()
    return event


def ground(*scripts: str | Sequence[str] | Server, **more: Any) -> Ground:
    """One pod for each script, list of scripts, or server."""
    servers = [
        script
        if isinstance(script, Server)
        else Server([script] if isinstance(script, str) else script)
        for script in scripts
    ]
    return Ground(servers, **more)
