"""The router and the segmenter alone, in this process: what they add, in CPU time."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import msgspec

from bench.report import Figure
from headgate_api.snapshot import (
    ApiKey,
    Cohort,
    Identity,
    ModelBody,
    RouteBody,
    RouteRule,
    StreamingBody,
    Target,
    TenantBody,
)
from headgate_gateway.calls.events import Event, Text
from headgate_gateway.edge.exchange import Head
from headgate_gateway.edge.read_chat import read_chat_request
from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import PASS, Refusal
from headgate_gateway.request import Request
from headgate_gateway.routing.features import Surroundings
from headgate_gateway.routing.pods import Pods
from headgate_gateway.routing.pools import Speculating
from headgate_gateway.routing.router import Router
from headgate_gateway.routing.tables import Credential, Tables, Tenant
from headgate_gateway.routing.targets import Targets
from headgate_gateway.streaming.segments import Segmenter
from headgate_gateway.telemetry.trace_context import Trace
from headgate_gateway.timeline import Timeline
from headgate_policy.snapshot import make_entry

ROUTES: Final = 64
ROUNDS: Final = 15
REQUESTS: Final = 2_000
WORDS: Final = 20_000
SEGMENTS: Final = 2_000
SENTENCE: Final = 12  # words
TENANT: Final = TenantBody(tenant="acme", priority="Standard")
RULES: Final = (
    "request.inputTokens > {n}000",
    "request.hasTools && request.turns > {n}",
    "request.language == 'xx{n}'",
    "user.tier == 'tier-{n}' && request.stream",
    "request.format == 'json_schema' && request.temperature > 1.{n}",
    "'x-feature' in request.headers && request.headers['x-feature'] == 'f{n}'",
    "request.codeShare > 0.9 && request.inputTokens > {n}00",
    "tenant.name == 'tenant-{n}' && region.load > 0.9",
)
"""Each kind of rule that the manual shows. None holds: the last route takes the request."""


def rules(count: int) -> list[str]:
    """As many different rules."""
    return [RULES[n % len(RULES)].format(n=n) for n in range(count)]


def tables(routes: Sequence[RouteRule]) -> Tables:
    """One policy and one model."""
    cohort = Cohort(
        name="llama-bf16-0", variant="bf16", revision="0", runtime="triton-llmapi", served_model="m"
    )
    policy = RouteBody(
        models=("chat",), architecture="Router", match_headers=("x-feature",), routes=tuple(routes)
    )
    draft = Tables().edit()
    for identity, body in (
        (
            Identity(kind="ModelDeployment", namespace="n", name="llama"),
            ModelBody(public_name="served/llama", cohorts=(cohort,)),
        ),
        (Identity(kind="RoutingPolicy", namespace="n", name="chat"), policy),
    ):
        draft.put(make_entry(identity, uid=identity.name, generation=1, body=body))
    return draft.done()


def request(found: Tables) -> Request:
    """A request as it is when it comes to the router."""
    body = msgspec.json.encode(
        {"model": "chat", "messages": [{"role": "user", "content": "What is the weather like?"}]}
    )
    asked = read_chat_request(body)
    assert not isinstance(asked, Refusal)
    request = Request(
        id="r",
        head=Head("POST", "/v1/chat/completions", {}),
        body=body,
        tables=found,
        loaded=True,
        now=time.time(),
        trace=Trace(trace_id=1, span_id=1, parent_id=0, flags=0, state=b""),
        timeline=Timeline(0.0),
    )
    request.credential = Credential(Tenant("n", TENANT, ()), ApiKey(sha256="", name="key"))
    request.asked = asked
    return request


def pods() -> Pods:
    """One ready pod of the model."""
    ready = Pods()
    ready.put(
        {
            "metadata": {
                "namespace": "n",
                "name": "pod",
                "uid": "pod",
                "labels": {
                    "headgate.dev/part": "model-server",
                    "headgate.dev/model-uid": "llama",
                    "headgate.dev/cohort": "llama-bf16-0",
                },
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "ReplicaSet",
                        "name": "llama-bf16-0-1",
                        "uid": "r",
                        "controller": True,
                    }
                ],
            },
            "status": {
                "podIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )
    return ready


def spent(work: Callable[[], None], times: int) -> float:
    """CPU time of one piece of work, us."""
    before = time.process_time_ns()
    work()
    return (time.process_time_ns() - before) / times / 1000


def routed() -> Figure:
    """What 64 rules cost a request that none of them takes, more than one route without a rule."""
    last = RouteRule(name="last", targets=(Target(model="llama"),))
    many = [
        RouteRule(name=f"r{n}", when=when, targets=last.targets)
        for n, when in enumerate(rules(ROUTES - 1))
    ]
    ready = pods()
    targets = Targets(ready, Speculating(ready, Metrics().speculation))
    router = Router(targets, Surroundings("bench", lambda: 0.5))

    def deciding(found: Tables) -> float:
        asked = [request(found) for _ in range(REQUESTS)]

        def work() -> None:
            for each in asked:
                if router.decide(each) is not PASS:
                    raise AssertionError("the last route takes it")

        return spent(work, REQUESTS)

    one, all_of_them = tables([last]), tables([*many, last])
    alone, among = [], []
    for _ in range(ROUNDS):
        alone.append(deciding(one))
        among.append(deciding(all_of_them))
    return Figure(
        name=f"a router with {ROUTES} routes adds to a request",
        value=median(among) - median(alone),
        unit="us",
        goal=25,
        yardstick=median(alone),
        spread=[one - median(alone) for one in among],
    )


def words(count: int) -> list[Event]:
    """Tokens as models write them: each behind its space, and sentences of some words."""
    return [Text(" word." if n % SENTENCE == SENTENCE - 1 else " word") for n in range(count)]


def segmented() -> list[Figure]:
    """What it costs to hold events, and to give a segment."""
    said = words(WORDS)
    taken: list[Event] = []

    def passed_on() -> None:
        for event in said:
            taken.extend((event,))

    def held() -> None:
        segmenter = Segmenter(StreamingBody())
        for event in said:
            segments = segmenter.feed(event, 0.0)
            if segments:
                taken.extend(segments)

    bare: list[float] = []
    events: list[float] = []
    for _ in range(ROUNDS):
        for work, samples in ((passed_on, bare), (held, events)):
            taken.clear()
            samples.append(spent(work, WORDS))
    each = _segments()
    return [
        Figure(
            name="segmenting adds to an event",
            value=median(events) - median(bare),
            unit="us",
            goal=1,
            yardstick=median(bare),
            spread=[one - median(bare) for one in events],
        ),
        Figure(
            name="a segment, from its last token on, p50",
            value=median(each),
            unit="ms",
            goal=0.2,
            spread=each,
        ),
    ]


def _segments() -> list[float]:
    """The time that the event takes which ends a segment, ms."""
    segmenter = Segmenter(StreamingBody())
    found: list[float] = []
    for event in words(SEGMENTS * SENTENCE):
        before = time.perf_counter_ns()
        segments = segmenter.feed(event, 0.0)
        after = time.perf_counter_ns()
        if segments:
            found.append((after - before) / 1e6)
    return found


def longest_held() -> Figure:
    """The most characters that are held, of a text that never ends a sentence."""
    how = StreamingBody()
    segmenter = Segmenter(how)
    fed = given = most = 0
    for _ in range(WORDS):
        fed += len(" word")
        given += sum(len(_text(event)) for event in segmenter.feed(Text(" word"), 0.0))
        most = max(most, fed - given)
    return Figure(
        name="text held without a sentence's end",
        value=most,
        unit="chars",
        goal=how.max_characters,
    )


def _text(event: Any) -> str:
    return str(event.text)


def parts() -> list[Figure]:
    return [routed(), *segmented(), longest_held()]
