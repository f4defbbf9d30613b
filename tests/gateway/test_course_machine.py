"""Whatever models and policies do: one answer at most, each route once, on time, nothing left."""

import asyncio

from hypothesis import given, settings, strategies as st

from headgate_api.snapshot import (
    DeadlineBody,
    FallbackBody,
    GenerationBody,
    RequestLimits,
    RetryBody,
    RouteBody,
    RouteRule,
    Target,
    VerifierBody,
)
from headgate_gateway.request import Request

from .courses import NAME, STOPPED, Field, Told
from .virtual import Server, run

MODELS = ("one", "two", "judge")
TRIGGERS = ("Error", "Timeout", "Saturated", "Rejected")
FAST = DeadlineBody(total=10.0, stream=10.0, first_segment=3.0, idle_token=2.0, reserve=0.5)
CAP = 16
VERIFIER = 5

scripts = st.lists(
    st.sampled_from(
        [
            "{m} end",
            "0.5 {m} 0.5 {m}-more end",
            "{m} yes end",
            '{"{m}":1} end',
            "=0.9 end",
            "cut",
            "{m} cut",
            "!500",
            "!429",
            "!503/1",
            "error",
            "nonsense",
            "head",
            "",
            "2 {m} end",
            "{m} 1 " * 12,
        ]
    ),
    min_size=1,
    max_size=3,
)
accepts = st.sampled_from(
    [
        None,
        "answer.text.contains('yes')",
        "answer.outputTokens > 1",
        "answer.schemaValid",
        "answer.verifier.score > 0.5",
        "!answer.refused && answer.finishReason == 'stop'",
    ]
)
LIMITS = st.none() | st.builds(
    RequestLimits,
    max_total_tokens=st.none() | st.integers(1, 150),
    max_calls=st.none() | st.integers(1, 4),
)
MOMENT = st.one_of(st.none(), st.floats(0.0, 9.0))
WHEN = ("request.hasTools", "request.turns == 1", "request.stream", "request.inputTokens < 100")


class Watching(Server):
    """Looks at what is left of the allowance of whom it answers."""

    def __init__(self, scripts: list[str], requests: list[Request]) -> None:
        super().__init__(scripts)
        self.requests = requests
        self.left: list[int] = []

    def next(self) -> str:
        for request in self.requests:
            if (allowance := request.allowance) is not None:
                self.left += [allowance.tokens or 0, allowance.calls or 0]
        return super().next()


@st.composite
def policies(draw: st.DrawFn) -> RouteBody:
    count = draw(st.integers(1, 4))
    entries = draw(st.integers(1, count))
    cascade = entries > 1 and draw(st.booleans())
    names = [f"route-{number}" for number in range(count)]
    rules = []
    for number, name in enumerate(names):
        accept = draw(accepts)
        last = number == entries - 1
        if cascade and number < entries:
            accept = None if last else accept or "answer.text.contains('yes')"
        fallback = draw(
            st.lists(
                st.builds(
                    FallbackBody,
                    route=st.sampled_from(names),
                    triggers=st.lists(st.sampled_from(TRIGGERS), min_size=1, unique=True).map(
                        tuple
                    ),
                ),
                max_size=3,
            )
        )
        fixed = number >= entries and draw(st.integers(0, 5)) == 0
        target = draw(st.sampled_from(MODELS[:2]))
        rules.append(
            RouteRule(
                name=name,
                fallback_only=number >= entries,
                when=None if number >= entries or last else draw(st.sampled_from(WHEN)),
                accept_when=None if fixed else accept,
                targets=() if fixed else (Target(model=target),),
                respond="fixed" if fixed else None,
                verifier=VerifierBody(model="judge", max_output_tokens=VERIFIER),
                generation=GenerationBody(
                    temperature=draw(st.sampled_from([None, 0.0, 1.0])),
                    cap_max_output_tokens=draw(st.sampled_from([None, 8])),
                ),
                fallback=() if fixed else tuple(fallback),
            )
        )
    return RouteBody(
        models=(NAME,),
        architecture="Cascade" if cascade else "Router",
        routes=tuple(rules),
        deadlines=FAST,
        retries=RetryBody(max_attempts=draw(st.integers(1, 2))),
    )


@settings(max_examples=250)
@given(
    policy=policies(),
    played=st.fixed_dictionaries(dict.fromkeys(MODELS, scripts)),
    wishes=st.tuples(st.booleans(), st.booleans()),
    ends=st.tuples(MOMENT, MOMENT),
    limits=LIMITS,
)
def test_a_course_keeps_its_promises(
    policy: RouteBody,
    played: dict[str, list[str]],
    wishes: tuple[bool, bool],
    ends: tuple[float | None, float | None],
    limits: RequestLimits | None,
) -> None:
    (stream, wants_json), (leaves, stops) = wishes, ends
    requests: list[Request] = []
    servers = {
        model: [Watching([script.replace("{m}", model) for script in some], requests)]
        for model, some in played.items()
    }

    async def main() -> None:
        more = {"response_format": {"type": "json_object"}} if wants_json else {}
        async with Field(policy, servers, limits=limits, requests=requests) as field:
            entered = field.entered(stream=stream, max_tokens=CAP, **more)
            if entered is None:
                return  # a bare call
            request, course = entered
            loop = asyncio.get_running_loop()
            began = loop.time()
            if stops is not None:
                timer = loop.call_later(stops, course.stop, STOPPED)
            reading = asyncio.create_task(field.read(request, course))
            if leaves is not None:
                await asyncio.wait([reading], timeout=leaves)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            else:
                await reading
            if stops is not None:
                timer.cancel()
            assert loop.time() - began <= 9.5 + 1e-6
            assert request.decision is not None
            stages = request.decision.stages
            routes = [stage.route for stage in stages]
            assert len(set(routes)) == len(routes)
            assert 1 >= sum(stage.result in {"given", "accepted"} for stage in stages)
            granted, tries = field.granted(), len(routes) * policy.retries.max_attempts
            stale = sum(attempt.result == "stale" for attempt in request.timeline.attempts)
            assert sum(granted) <= tries * (CAP + VERIFIER) + stale * CAP
            assert len([tokens for tokens in granted if tokens > VERIFIER]) <= tries + stale
            # A verifier's calls may write no more than it needs, and are as many at most.
            assert len(granted) <= 2 * tries + stale
            assert max(granted, default=0) <= CAP
            assert 1 >= sum(stage.repair for stage in stages)
            assert all(left >= 0 for [server] in servers.values() for left in server.left)
            if limits is not None:
                _check_limits(request, limits)
            if not reading.cancelled():
                _check(reading.result(), stream)

    def _check(told: Told, stream: bool) -> None:
        models = {word.split("-")[0] for word in told.text.split()} & set(MODELS)
        assert len(models) <= 1
        if told.code == "ok":
            last = told.stages[-1]
            assert last.result in {"given", "accepted"}
            assert models <= {last.model}
        elif not stream:
            assert "" == told.text

    run(main)


def _check_limits(request: Request, limits: RequestLimits) -> None:
    attempts, allowance = request.timeline.attempts, request.allowance
    assert allowance is not None
    if limits.max_calls is not None:
        made = sum(attempt.result != "stale" for attempt in attempts)
        assert made == limits.max_calls - (allowance.calls or 0) <= limits.max_calls
    if limits.max_total_tokens is not None:
        assert 0 <= allowance.used <= limits.max_total_tokens
        written = sum(a.usage.output_tokens for a in attempts if a.usage is not None)
        assert written <= allowance.used
        assert all(1 <= attempt.granted <= CAP for attempt in attempts)
