"""A policy's way through several models, in virtual time: everything but the edge is real."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
from msgspec import structs

from headgate_api.snapshot import (
    Cohort,
    FallbackBody,
    Identity,
    ModelBody,
    RequestLimits,
    RouteBody,
    RouteRule,
    Target,
    TenantBody,
)
from headgate_gateway.calls.ask import Backends, Patience
from headgate_gateway.calls.deadline import Deadline, deadline
from headgate_gateway.calls.events import End, Failed, Text, ToolCall, Waiting
from headgate_gateway.calls.source import Source
from headgate_gateway.context.prepare import Preparation
from headgate_gateway.edge.chat_request import ChatRequest
from headgate_gateway.edge.exchange import Head
from headgate_gateway.edge.read_chat import read_chat_request
from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import Code, Refusal
from headgate_gateway.request import Request
from headgate_gateway.routing.course import Course
from headgate_gateway.routing.decision import Decision
from headgate_gateway.routing.features import Surroundings
from headgate_gateway.routing.pods import Pod, Pods, Pool
from headgate_gateway.routing.pools import Speculating
from headgate_gateway.routing.router import Router
from headgate_gateway.routing.stage import Stage
from headgate_gateway.routing.tables import Credential, Tables, TablesDraft, Tenant
from headgate_gateway.routing.targets import Targets
from headgate_gateway.routing.trial import Ground
from headgate_gateway.timeline import Timeline
from headgate_policy.chat import chat_template
from headgate_policy.snapshot import make_entry

from .conftest import api_key
from .engine import following, reaching
from .told import trace
from .virtual import JumpingLoop, Server

NAME = "assistant"
TENANT = TenantBody(tenant="acme", keys=(api_key("k"),))
STOPPED = Refusal(Code.GATEWAY_DRAINING, 503, "This gateway stops.", retry_after=1)


def rule(name: str, model: str = "", **more: Any) -> RouteRule:
    """A route to the model of its name, or another."""
    return RouteRule(**{"name": name, "targets": (Target(model=model or name),)} | more)


def back(route: str, *triggers: Any) -> tuple[FallbackBody, ...]:
    return (FallbackBody(route=route, triggers=triggers),)


def cascade(*rules: RouteRule, **more: Any) -> RouteBody:
    return RouteBody(**{"models": (NAME,), "architecture": "Cascade", "routes": rules} | more)


def router(*rules: RouteRule, **more: Any) -> RouteBody:
    return cascade(*rules, **{"architecture": "Router"} | more)


@dataclass
class Told:
    """What a client would have got."""

    request: Request
    began: float
    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    code: str = ""  # ok, or the reason
    waits: list[str] = field(default_factory=list)
    ended: float = 0.0
    end: End | None = None
    refusal: Refusal | None = None

    @property
    def seconds(self) -> float:
        return round(self.ended - self.began, 2)

    @property
    def decision(self) -> Decision:
        assert self.request.decision is not None
        return self.request.decision

    @property
    def stages(self) -> list[Stage]:
        return self.decision.stages

    @property
    def way(self) -> list[str]:
        """Each stage and how it ended."""
        return [f"{stage.route} {stage.result}" for stage in self.stages]

    @property
    def attempts(self) -> list[str]:
        return [f"{each.model} {each.result}" for each in self.request.timeline.attempts]


@dataclass
class Field:
    """A policy, and a model for each name, with pods that play its scripts.

    Whatever a test did, at its end nothing may be left: no request in flight, no timer, no task,
    no connection.
    """

    policy: RouteBody
    servers: Mapping[str, Sequence[Server]]
    patience: Patience = field(default_factory=Patience)
    limits: RequestLimits | None = None  # of the tenant
    requests: list[Request] = field(default_factory=list)
    _patches: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        pods = self.pods = Pods()
        self.by_name: dict[str, Server] = {}
        draft = Tables().edit()
        for model in self.servers:
            self._place(draft, model, model)
        identity = Identity(kind="RoutingPolicy", namespace="chat", name="front")
        draft.put(make_entry(identity, uid="front", generation=1, body=self.policy))
        self.tables = draft.done()
        backends = Backends(pods, self.patience, clock=lambda: asyncio.get_running_loop().time())
        preparation = Preparation(64)
        preparation._compiled[None] = chat_template(None)  # a thread would not know of virtual time
        self.metrics = Metrics()
        self.ground = Ground(
            backends,
            Targets(pods, Speculating(pods, self.metrics.speculation)),
            preparation,
            self.metrics,
            lambda namespace: self.tables.space(namespace).objects,
        )
        self.router = Router(self.ground.targets, Surroundings("here", lambda: 0.25))

    def _place(self, draft: TablesDraft, model: str, cohort: str) -> None:
        """Have a model, and a pod of this cohort for each of its servers."""
        serving = Cohort(
            name=cohort,
            variant="bf16",
            revision="0a1b2c3d",
            runtime="triton-python",
            served_model="ensemble",
        )
        identity = Identity(kind="ModelDeployment", namespace="chat", name=model)
        body = ModelBody(public_name=f"the-{model}", cohorts=(serving,))
        draft.put(make_entry(identity, uid=model, generation=1, body=body))
        for number, server in enumerate(self.servers[model], 1):
            name = server.name = f"{model}-{number}"
            self.by_name[name] = server
            pool = Pool("chat", model)
            pod = Pod(name=name, uid=name, host=name, port=8000, cohort=cohort, pool=pool)
            self.pods.place(("chat", name), pod)

    def roll(self, model: str) -> None:
        """Replace a model's revision, with all of its pods."""
        draft = self.tables.edit()
        self._place(draft, model, f"{model}-new")
        self.tables = draft.done()

    def request(self, headers: dict[bytes, bytes] | None = None, **more: Any) -> Request:
        """Bring a request to where its calls begin."""
        messages = [{"role": "user", "content": "Hello"}]
        body = msgspec.json.encode({"model": NAME, "messages": messages} | more)
        asked = read_chat_request(body)
        assert isinstance(asked, ChatRequest)
        now = asyncio.get_running_loop().time()
        tenant = Tenant("chat", structs.replace(TENANT, request=self.limits), ())
        request = Request(
            id=f"r{len(self.requests)}",
            head=Head("POST", "/v1/chat/completions", headers or {}),
            body=body,
            tables=self.tables,
            loaded=True,
            now=1_700_000_000.0,
            trace=trace(),
            timeline=Timeline(started=now),
        )
        request.credential = Credential(tenant, tenant.body.keys[0])
        request.asked = asked
        return request

    def course(self, **more: Any) -> tuple[Request, Course]:
        entered = self.entered(**more)
        assert entered is not None
        return entered

    def entered(self, **more: Any) -> tuple[Request, Course] | None:
        """Begin a request's course. None: it has none, as its first answer is its last."""
        request = self.request(**more)
        self.router.decide(request)
        if request.plan is None:
            return None
        self.requests.append(request)
        by_when = deadline(
            self.policy.deadlines,
            request.head.headers,
            request.timeline.started,
            stream=request.asked.streams,
        )
        assert isinstance(by_when, Deadline)
        request.deadline = by_when
        return request, Course(self.ground, request, request.plan)

    async def ask(self, **more: Any) -> Told:
        """Ask and read to the end."""
        return await self.read(*self.course(**more))

    async def read(self, request: Request, source: Source) -> Told:
        clock = asyncio.get_running_loop().time
        told = Told(request, clock())
        try:
            while True:
                match await following(source):
                    case Text(text):
                        told.text += text
                    case ToolCall() as call:
                        told.calls.append(call)
                    case Waiting(reason):
                        told.waits.append(reason)
                    case End() as end:
                        told.code, told.end = "ok", end
                        break
                    case Failed(refusal):
                        told.code, told.refusal = refusal.code.value, refusal
                        break
                    case other:
                        raise AssertionError(other)
        finally:
            told.ended = clock()
            source.close()
        told.text = told.text.strip()
        return told

    def asked(self, model: str) -> int:
        """Count the requests that its pods got."""
        return sum(len(server.asked) for server in self.servers[model])

    def granted(self) -> list[int]:
        """List how many tokens each request might write that a pod got."""
        servers = self.by_name.values()
        return [asked.fields["max_tokens"] for server in servers for asked in server.asked]

    async def __aenter__(self) -> Self:
        self._patches.enter_context(reaching(self.by_name))
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
            pods = [pod for model in self.servers for pod in self._pods_of(model)]
            assert {0} == {pod.in_flight for pod in pods}
            for pod in pods:
                pod.retire()
            await asyncio.sleep(0)
            traffics = self.ground.backends.traffics
            for model in self.servers:
                traffic = traffics.of(Pool("chat", model))
                assert (0, 0) == (traffic.active, traffic.retrying)
            assert {0} == {server.open for server in self.by_name.values()}
            assert 0 == loop.timers
            attempts = [a for request in self.requests for a in request.timeline.attempts]
            assert all(a.result and a.model and a.ended is not None for a in attempts)
            stages = [s for r in self.requests if r.decision for s in r.decision.stages]
            assert all(stage.result and stage.ended is not None for stage in stages)
            assert 1 == len(asyncio.all_tasks())
        self._patches.close()

    def _pods_of(self, model: str) -> Sequence[Pod]:
        return list(self.pods.ready(Pool("chat", model), (model, f"{model}-new")))


def on(policy: RouteBody, **scripts: str | Sequence[str]) -> Field:
    """A model for each name, with one pod that plays this script, or these in turn."""
    return Field(
        policy,
        {
            model: [Server([script] if isinstance(script, str) else script)]
            for model, script in scripts.items()
        },
    )
