"""An explanation as a reader sees it, whole."""

from typing import Any, Final

import msgspec

from headgate_api.snapshot import FallbackBody, RouteBody, RouteRule, Target
from headgate_gateway.explain.explain import explain
from headgate_gateway.explain.explanation import Explanation
from headgate_gateway.explain.kept import Own, Record
from headgate_gateway.explain.record import decided, packed
from headgate_gateway.explain.words import words
from headgate_gateway.routing.decision import Decision
from headgate_gateway.routing.routes import Route
from headgate_gateway.routing.stage import Stage
from headgate_gateway.routing.tables import compile_entry
from headgate_gateway.streaming.watch import Watch
from headgate_gateway.telemetry.facts import Try

from .conftest import entry
from .told import STARTED, facts

SMALL: Final = RouteRule(
    name="small",
    when='request.inputTokens < 6000 && user.tier != "premium"',
    accept_when="answer.schemaValid",
    targets=(Target(model="llama-8b", weight=3), Target(model="qwen")),
    fallback=(FallbackBody(route="sorry", triggers=("Error", "Timeout")),),
)
ROUTES: Final = (
    RouteRule(name="tools", when="request.hasTools", targets=(Target(model="qwen"),)),
    RouteRule(name="gold", when='request.headers["x-plan"] == "gold"', targets=SMALL.targets),
    SMALL,
    RouteRule(name="large", targets=(Target(model="llama-70b"),)),
    RouteRule(name="sorry", fallback_only=True, respond="Later."),
)
READ: Final = {
    "request.hasTools": False,
    "request.headers": {},
    "request.inputTokens": 412,
    "user.tier": "",
}


def route() -> Route:
    body = RouteBody(
        models=("extract",),
        architecture="Cascade",
        match_headers=("x-plan",),
        routes=ROUTES,
    )
    found = compile_entry(entry("RoutingPolicy", "front", body))
    assert isinstance(found, Route)
    return found


def record(decision: Decision | None, watch: Watch | None = None, **told: Any) -> Record:
    line = msgspec.json.encode(facts(**told))
    own = msgspec.msgpack.encode(
        Own("p-1", STARTED, STARTED + 60, "x-request-timeout-ms", 512, 4000, 731)
    )
    policy = None if decision is None else decision.route
    kept = b"" if decision is None else packed(decided(decision, watch, STARTED))
    return Record(STARTED + 2, own, "", (), line, policy, kept)


def cascade() -> Explanation:
    """A cascade whose second stage gave the answer, as a stream."""
    watch = Watch()
    watch.segments, watch.first, watch.longest, watch.ending = (
        4,
        STARTED + 1.3,
        0.24,
        "complete",
    )
    watch.causes = {"sentence": 3, "end": 1}
    small = Stage(
        route="small",
        model="llama-8b",
        variants=("fp8",),
        why="sticky",
        result="rejected",
        reason="it does not fit the schema",
        words={"answer.schemaValid": False},
        started=STARTED + 0.001,
        ended=STARTED + 0.8,
        attempts=(0, 2),
        tokens=(412, 80),
    )
    large = Stage(
        route="large",
        model="llama-70b",
        result="given",
        started=STARTED + 0.8,
        ended=STARTED + 2,
        attempts=(2, 3),
        tokens=(412, 91),
    )
    return explain(
        record(
            Decision(
                route=route(),
                rule=2,
                errors={1: "there is no header x-plan"},
                words=READ,
                stages=[small, large],
            ),
            watch,
            stream=True,
            public_name="extract",
            route="front/large",
            key="ci",
            user="build-7",
            tries=(
                Try(pod="a-1", result="upstream_lost", ms=20.0, at_ms=1.1, model="llama-8b"),
                Try(pod="a-2", result="ok", ms=770.0, at_ms=30.4, model="llama-8b"),
                Try(pod="b-1", result="ok", ms=1199.0, at_ms=801.0, model="llama-70b"),
            ),
            attempts=3,
            stages_ms={"identity": 0.012, "parse": 0.041, "routing": 0.08, "context": 0.031},
            deadline_left_ms=58000,
            input_tokens=412,
            output_tokens=91,
            first_token_s=1.3,
            context="truncated; dropped=ToolOutput:2; dropped_tokens=310",
        )
    )


STORY: Final = """\
Request p-1: A chat for the model "extract", as a stream, asked by tenant acme (key ci, user \
build-7).
Answered by front/large with status 200 after 2 s, finish reason stop (it ended at \
2023-11-14T22:13:22.000+00:00).

Policy chat/front claims the name (Cascade: routes are tried in order until an answer is \
accepted).
  tools: no, when request.hasTools
    because request.hasTools is false
  gold: no, when request.headers["x-plan"] == "gold", which has no value: there is no header \
x-plan
  small: yes, when request.inputTokens < 6000 && user.tier != "premium"
    because request.inputTokens < 6000 is true (request.inputTokens is 412)
    and user.tier != "premium" is true (user.tier is '')
    leads to llama-8b (3 of 4), qwen (1 of 4); accepts an answer when answer.schemaValid; \
falls back to sorry after Error or Timeout
  large: yes, it takes all that comes to it
    leads to llama-70b
  sorry: fallback only
    has a fixed answer

Its way:
  1. route small, model llama-8b in variant fp8 (its key keeps it there): its answer was not \
accepted: it does not fit the schema [answer.schemaValid is false], after 799 ms, 80 tokens, \
attempts 1 and 2
  2. route large, model llama-70b (the only target that was ready): its answer was given, \
after 1.2 s, 91 tokens, attempt 3

Attempts at model servers:
  1. a-1 of llama-8b: upstream_lost, from 1.1 ms, for 20 ms
  2. a-2 of llama-8b: ok, from 30 ms, for 770 ms
  3. b-1 of llama-70b: ok, from 801 ms, for 1.2 s

Segments:
  4, the first after 1.3 s, the longest gap 240 ms; complete
  ended by: sentence 3, end 1

Budgets:
  time: 60 s, by the client's x-request-timeout-ms; 58 s were left
  input: 412 tokens
  input: truncated; dropped=ToolOutput:2; dropped_tokens=310
  output: 91 of at most 512 tokens
  all calls: 731 of 4000 tokens

Time:
  identity 0.012 ms, parse 0.041 ms, routing 0.08 ms, context 0.031 ms
  first text after 1.3 s
  all of it 2 s
"""


def test_a_cascade_reads_as_a_story() -> None:
    assert STORY == words(cascade())


def test_a_client_that_left_and_a_deadline_that_was_missed_read_as_such() -> None:
    left = words(explain(record(None, status=0, code="client_closed", deadline_left_ms=-20)))
    assert "The client left after 2 s (it ended at 2023-11-14T22:13:22.000+00:00)." in left
    assert "; it took 20 ms longer" in left


def test_a_refusal_before_anybody_was_known_reads_as_such() -> None:
    told = {"tenant": None, "namespace": None, "model": None, "public_name": None, "attempts": 0}
    refused = record(None, status=401, code="invalid_api_key", stages_ms={"identity": 0.02}, **told)

    first, second, *_ = words(explain(refused)).splitlines()

    assert "Request p-1: A chat, asked by nobody known." == first
    assert second.startswith(
        "Refused by the stage identity with status 401, invalid_api_key after "
    )


def test_what_is_guessed_and_replayed_is_said() -> None:
    found = explain(record(None, tokens_estimated=True, idempotency="replayed"))

    said = words(found)

    assert "input: about 7 tokens" in said
    assert "Its Idempotency-Key: replayed." in said
