"""A model with pods that guess ahead and plain ones, behind a route, in virtual time."""

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headgate_api.snapshot import Cohort, RouteBody, RouteRule, SpeculationBody, Target
from headgate_gateway.calls.call import Call
from headgate_gateway.calls.deadline import Deadline, deadline
from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.exchange import Head
from headgate_gateway.edge.read_chat import read_chat_request
from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import PASS
from headgate_gateway.request import Request
from headgate_gateway.routing.asking import begin
from headgate_gateway.routing.features import Surroundings
from headgate_gateway.routing.pools import Speculating
from headgate_gateway.routing.router import Router
from headgate_gateway.routing.stage import Speculation
from headgate_gateway.routing.tables import Credential, Tables, Tenant
from headgate_gateway.routing.targets import Targets
from headgate_gateway.timeline import Timeline
from headgate_policy.snapshot import decode_body

from .conftest import TENANT, cohort, entry, guessing, model
from .engine import TASK, Answer, Ground
from .told import trace
from .virtual import Server

NAME: Final = "assistant"
GUESSING: Final = guessing("guessing")
PLAIN: Final = cohort("plain")
ACME: Final = Tenant("chat", decode_body(TENANT), ())  # type: ignore[arg-type]


def writing(tokens: int, pace: float, *, drafts: tuple[int, int] | None = None) -> str:
    """Script an answer: with this many tokens, each after so many s.

    Args:
        tokens: that the model writes.
        pace: s for each of them.
        drafts: tokens that were guessed, and those that were accepted, which came with others.
    """
    events = tokens - (drafts[1] if drafts is not None else 0)
    step = pace * (tokens - 1) / (events - 1)
    told: dict[str, Any] = {"finish_reason": "stop"}
    if drafts is not None:
        told["total_draft_tokens"], told["total_accepted_draft_tokens"] = map(str, drafts)
    words = ["0.1"]
    for number in range(1, events + 1):
        outputs = told if number == events else {"finish_reason": "None"}
        event = json.dumps({"text_output": "a" * number} | outputs, separators=(",", ":"))
        words += [f"data:{event}", str(step)]
    return " ".join((*words[:-1], "end"))


FAST: Final = writing(9, 0.01, drafts=(8, 6))
"""Of a pod that guesses well, and is twice as fast for it."""
SLOW: Final = writing(9, 0.02)
"""Of a plain pod."""


class Twins:
    """The first pod guesses, the second one does not. See `Ground`."""

    def __init__(
        self,
        said: SpeculationBody | None,
        scripts: Sequence[str | Sequence[str]] = (FAST, SLOW),
        *,
        cohorts: Sequence[Cohort] = (GUESSING, PLAIN),
        variants: tuple[str, ...] = (),
        **policy: Any,
    ) -> None:
        servers = [Server([each] if isinstance(each, str) else each) for each in scripts]
        self.ground = Ground(servers, [each.name for each in cohorts], "triton-llmapi")
        rule = RouteRule(
            name="all",
            targets=(Target(model="llama", variants=variants),),
            speculative=said,
            **{name: policy.pop(name) for name in ("generation",) if name in policy},
        )
        draft = Tables().edit()
        draft.put(model(*cohorts))
        draft.put(
            entry("RoutingPolicy", "front", RouteBody(models=(NAME,), routes=(rule,), **policy))
        )
        self.tables = draft.done()
        self.metrics = Metrics()
        pods = self.ground.pods
        self.speculating = Speculating(pods, self.metrics.speculation, random.Random(7))  # noqa: S311
        self.router = Router(Targets(pods, self.speculating), Surroundings("here", lambda: 0.0))

    def decide(self, *, session: str = "", asked: Asked | None = None, **more: Any) -> Request:
        """Route a request."""
        messages = [{"role": "user", "content": "Hello"}]
        body = msgspec.json.encode({"model": NAME, "messages": messages} | more)
        found = asked or read_chat_request(body)
        request = Request(
            id="r",
            head=Head("POST", "/", {b"x-session-id": session.encode()} if session else {}),
            body=body,
            tables=self.tables,
            loaded=True,
            now=1_700_000_000.0,
            trace=trace(),
            timeline=Timeline(started=1000.0),
        )
        request.credential = Credential(ACME, ACME.body.keys[0])
        request.asked = found  # type: ignore[assignment]
        assert PASS is self.router.decide(request)
        return request

    async def ask(self, **more: Any) -> Answer:
        """Ask and read to the end."""
        return await self.read(self.decide(**more))

    async def read(self, request: Request) -> Answer:
        """Read the answer to a request that is routed."""
        request.timeline.started = asyncio.get_running_loop().time()
        request.deadline = found = deadline(
            request.policy.deadlines, {}, request.timeline.started, stream=False
        )
        assert isinstance(found, Deadline)
        request.task = TASK
        call = begin(self.ground.backends, request, plain=True)
        assert isinstance(call, Call)
        self.ground.calls.append(call)
        return await self.ground.read(call)


def speculation(request: Request) -> Speculation | None:
    """What was decided about the only stage of a request."""
    assert request.decision is not None
    [stage] = request.decision.stages
    return stage.speculation
