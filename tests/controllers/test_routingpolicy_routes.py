"""Routes as gateways are told of them, and what their status says."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from headgate_api.routingpolicy import RoutingPolicy
from headgate_api.snapshot import (
    ContextBody,
    FallbackBody,
    GenerationBody,
    RouteBody,
    RouteRule,
    StickinessBody,
    StreamingBody,
    Target,
    ToolsBody,
    VerifierBody,
)
from headgate_controllers.contract import Document, Key

from .policies import SERVING, decoded, entry, model, policy, route
from .world import NAMESPACE, World, body, told

SCORED = "answer.verifier.score > 0.5"
EVERYTHING = route(
    "checked",
    when="request.headers['x-feature'] == 'checked'",
    targets=[{"modelRef": {"name": "llama"}, "variants": ["int4", "fp8"], "weight": 3}],
    generation={
        "defaults": {"temperature": 0, "topP": 0.9, "seed": 7, "maxOutputTokens": 800},
        "caps": {"temperature": 0.2, "maxOutputTokens": 4000},
    },
    streaming={
        "mode": "Buffered",
        "boundary": "Line",
        "maxCharacters": 200,
        "maxHold": "1s",
        "heartbeat": "5s",
        "onUpstreamLoss": "Continue",
    },
    tools={"mode": "Forbidden", "maxIterations": 8},
    context={
        "maxInputTokens": 32000,
        "onOverflow": "Truncate",
        "keepTurns": 4,
        "maxTokensPerSource": 2000,
        "dropFirst": ["History", "ToolOutput"],
    },
    acceptWhen=SCORED,
    verifier={
        "modelRef": {"name": "judge"},
        "instructionsKeyRef": {"name": "judging", "key": "prompt"},
        "maxOutputTokens": 16,
    },
    fallback=[{"route": "later", "triggers": ["Timeout", "Rejected", "Error"]}],
)
LATER = route("later", role="Fallback", respond={"message": "Ask again later."})


def test_gateways_are_told_all_that_a_route_says() -> None:
    world = World()
    model(world, "llama")
    world.documents[Key("ConfigMap", NAMESPACE, "judging")] = Document({"prompt": b"Is it JSON?"})
    said = policy(
        "Router",
        EVERYTHING,
        route("last"),
        LATER,
        matchHeaders=["X-Plan", "X-Feature", "x-plan"],
        stickiness={"key": "User", "header": "X-Session", "ttl": "30m"},
    )

    plan = world.settle(world.apply("RoutingPolicy", "chat", said))

    assert RouteBody(
        models=("gpt",),
        created=1767225600,
        architecture="Router",
        match_headers=("x-feature", "x-plan"),
        routes=(
            RouteRule(
                name="checked",
                when="request.headers['x-feature'] == 'checked'",
                accept_when=SCORED,
                targets=(Target(model="llama", weight=3, variants=("int4", "fp8")),),
                generation=GenerationBody(
                    temperature=0.0,
                    top_p=0.9,
                    seed=7,
                    max_output_tokens=800,
                    cap_temperature=0.2,
                    cap_max_output_tokens=4000,
                ),
                streaming=StreamingBody(
                    mode="Buffered",
                    boundary="Line",
                    max_characters=200,
                    max_hold=1.0,
                    heartbeat=5.0,
                    on_upstream_loss="Continue",
                ),
                tools=ToolsBody(forbidden=True, max_iterations=8),
                context=ContextBody(
                    max_input_tokens=32000,
                    truncate=True,
                    keep_turns=4,
                    max_tokens_per_source=2000,
                    drop_first=("History", "ToolOutput"),
                ),
                verifier=VerifierBody(
                    model="judge", instructions="Is it JSON?", max_output_tokens=16
                ),
                fallback=(FallbackBody(route="later", triggers=("Error", "Timeout", "Rejected")),),
            ),
            RouteRule(name="last", targets=(Target(model="llama"),), streaming=StreamingBody()),
            RouteRule(
                name="later",
                fallback_only=True,
                respond="Ask again later.",
                streaming=StreamingBody(),
            ),
        ),
        stickiness=StickinessBody(key="User", header="x-session", ttl=1800.0),
    ) == body(plan)


def test_what_says_nothing_has_no_bytes() -> None:
    bare = policy("Single", route("only"))
    wordy = policy(
        "Single",
        route(
            "only",
            role="Entry",
            generation={"defaults": {}},
            streaming={"mode": "Allowed", "heartbeat": "15000ms"},
            tools={"mode": "Allowed"},
            context={"onOverflow": "Refuse"},
        ),
        stickiness={"ttl": "60m"},
    )

    assert (
        b'{"models":["gpt"],"created":1767225600,'
        b'"routes":[{"name":"only","targets":[{"model":"llama"}],"streaming":{}}]}'
    ) == bytes(entry(bare).body)
    assert bytes(entry(bare).body) == bytes(entry(wordy).body)


class TestReady:
    """A policy is ready when nobody is left without an answer."""

    ANSWERS = ("Serving", "a model behind the route answers")

    @pytest.mark.parametrize(
        ("given", "last", "ready", "routes"),
        [
            (
                "only the first route's model answers",
                route("last", targets=[{"modelRef": {"name": "slow"}}]),
                "Ready=Unknown NoTargetReady: no model behind last, the last route, answers yet",
                ("NoTargetReady", "no model behind the route answers yet"),
            ),
            (
                "the last route's model answers",
                route("last"),
                "Ready=True Serving: a model behind last, the last route, answers",
                ANSWERS,
            ),
            (
                "the last route's variant has no pod",
                route("last", targets=[{"modelRef": {"name": "llama"}, "variants": ["int4"]}]),
                "Ready=False NoTargetReady: no model behind last, the last route, answers",
                ("NoTargetReady", "no model behind the route answers"),
            ),
            (
                "one of its variants has a pod",
                route(
                    "last", targets=[{"modelRef": {"name": "llama"}, "variants": ["int4", "fp8"]}]
                ),
                "Ready=True Serving: a model behind last, the last route, answers",
                ANSWERS,
            ),
            (
                "a target without weight answers",
                route(
                    "last",
                    targets=[
                        {"modelRef": {"name": "llama"}, "weight": 0},
                        {"modelRef": {"name": "slow"}},
                    ],
                ),
                "Ready=Unknown NoTargetReady: no model behind last, the last route, answers yet",
                ("NoTargetReady", "no model behind the route answers yet"),
            ),
            (
                "a fixed answer",
                route("last", respond={"message": "Closed."}),
                "Ready=True Serving: last, the last route, gives a fixed answer",
                ("Serving", "the route gives a fixed answer"),
            ),
            (
                "no model",
                route("last", targets=[{"modelRef": {"name": "gone"}}]),
                (
                    "Ready=False ModelNotFound: spec.routes[last].targets: "
                    'there is no ModelDeployment "gone" in this namespace'
                ),
                ("ModelNotFound", "no model that the route names is there"),
            ),
        ],
    )
    def test_is_about_the_route_that_takes_what_is_left(
        self, given: str, last: dict[str, Any], ready: str, routes: tuple[str, str]
    ) -> None:
        world = World()
        model(world, "llama", Available="True", Ready="True")
        model(world, "slow", Available="False", Ready="Unknown")
        said = policy("Router", route("first", when="request.stream"), last)

        plan = world.settle(world.apply("RoutingPolicy", "chat", said))

        assert ready == told(plan)[-1], given
        first, found = plan.status["routes"]
        assert ("first", True, *self.ANSWERS) == tuple(first.values())
        assert ("last", routes[0] == "Serving", *routes) == tuple(found.values())

    def test_is_as_it_was_where_one_route_takes_all(self) -> None:
        world = World()
        model(world, "llama", Available="True")
        plan = world.settle(world.apply("RoutingPolicy", "chat", policy("Single", route("only"))))

        assert SERVING == told(plan)[-1]


names = st.sampled_from(["a", "b", "c", "d"])
targets = st.lists(
    st.fixed_dictionaries(
        {"modelRef": st.fixed_dictionaries({"name": names})},
        optional={"weight": st.integers(1, 9), "variants": st.just(["fp8"])},
    ),
    min_size=1,
    max_size=3,
)
whens = st.sampled_from(
    ["request.stream", "request.turns > 3", "user.tier == 'x'", "1 +", "false", "true", "y"]
)
accepts = st.sampled_from(["answer.schemaValid", "answer.logprob.mean > -1.0", "x", "false"])
blocks: dict[str, st.SearchStrategy[Any]] = {
    "acceptWhen": accepts,
    "generation": st.sampled_from([{}, {"caps": {"temperature": 1}}]),
    "tools": st.sampled_from([{}, {"mode": "Forbidden"}]),
    "context": st.sampled_from([{}, {"maxInputTokens": 9}]),
    "fallback": st.lists(
        st.fixed_dictionaries(
            {
                "route": st.sampled_from(["r0", "r1", "r2", "last"]),
                "triggers": st.lists(
                    st.sampled_from(["Error", "Timeout", "Saturated"]), min_size=1, unique=True
                ),
            }
        ),
        min_size=1,
        max_size=3,
    ),
}


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """Specs that the API server takes, whatever the operator says of them."""
    architecture = draw(st.sampled_from(["Single", "Router", "Cascade"]))
    least = {"Single": 0, "Router": 0, "Cascade": 1}[architecture]
    needed = {"Cascade": {"acceptWhen": accepts}, "Router": {"when": whens}}.get(architecture, {})
    more = {name: block for name, block in {**blocks, "when": whens}.items() if name not in needed}
    routes = [
        {"name": f"r{number}", "targets": draw(targets)}
        | draw(st.fixed_dictionaries(needed, optional=more))
        for number in range(draw(st.integers(least, 3 if needed else 0)))
    ]
    last = {"name": "last", "targets": draw(targets)}
    return {
        "models": draw(st.lists(names, min_size=1, max_size=4, unique=True)),
        "matchHeaders": draw(st.lists(st.sampled_from(["X-A", "x-b", "x-c"]), unique=True)),
        "architecture": architecture,
        "routes": [*routes, last],
    }


@given(said=policies(), data=st.data())
def test_what_gateways_are_told_depends_on_no_order_that_means_nothing(
    said: dict[str, Any], data: st.DataObject
) -> None:
    """Also: whatever the API server takes has a plan."""
    other = {
        **said,
        "models": data.draw(st.permutations(said["models"])),
        "matchHeaders": data.draw(st.permutations(said["matchHeaders"])),
        "routes": [
            dict(data.draw(st.permutations(list(one.items()))))
            | (
                {
                    "fallback": [
                        {**to, "triggers": data.draw(st.permutations(to["triggers"]))}
                        for to in one["fallback"]
                    ]
                }
                if "fallback" in one
                else {}
            )
            for one in said["routes"]
        ],
    }
    entries = []
    for spec, born in ((said, ["a", "b"]), (other, ["b", "a"])):
        world = World()
        for name in born:
            model(world, name)
        key = world.apply("RoutingPolicy", "chat", spec, uid="the-same")
        entries.append(world.settle(key).entry)

    assert entries[0] == entries[1]
    if entries[0] is not None:
        told_to = decoded(entries[0])
        parsed = RoutingPolicy.parse({"metadata": {"name": "chat"}, "spec": said}).spec
        assert [one.name for one in parsed.routes] == [one.name for one in told_to.routes]
        assert tuple(sorted(said["models"])) == told_to.models
