"""A RoutingPolicy, compiled: its routes and their rules."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headgate_api.errors import TerminalError
from headgate_api.snapshot import Identity, RouteBody, RouteRule, ToolsBody
from headgate_policy import cel

NO_LIMITS: Final = ToolsBody()
LOGPROBS: Final = frozenset({"answer.logprob.mean", "answer.logprob.min"})


@dataclass(frozen=True, slots=True)
class Step:
    """One route of a RoutingPolicy, as requests take it."""

    number: int
    """Among the policy's routes."""
    rule: RouteRule
    label: str
    """`policy/route`, for headers, metrics and the log."""
    when: cel.Rule | None
    """Which requests take it. None: all that come to it."""
    accept: cel.Rule | None
    """What an answer must be to be shown."""
    logprobs: bool
    """It is about the probabilities of the answer's tokens."""
    alone: bool
    """Its answer is the request's, whatever it is."""
    gives_all: bool
    """There is nothing that a request may ask for in vain."""


@dataclass(frozen=True, slots=True)
class Route:
    """A RoutingPolicy, compiled."""

    identity: Identity
    body: RouteBody
    entries: tuple[Step, ...]
    """Routes that a request may enter by, in order. The last one takes whatever comes."""
    when: cel.Rules | None
    """Finds the first of them. None: there is only one."""
    doubtful: tuple[tuple[int, Callable[[Any], object]], ...]
    """Routes whose `when` can fail, by number: it then raises `Failed`."""
    steps: Mapping[str, Step]
    """All routes, by name."""


def compile_route(identity: Identity, body: RouteBody) -> Route:
    """Prepare a policy. `TerminalError`: it is not what it should be."""
    steps = [_step(identity, body, number) for number in range(len(body.routes))]
    entries = tuple(step for step in steps if not step.rule.fallback_only)
    if not entries or entries[-1].when is not None:
        raise TerminalError("no route takes what the others leave")
    whens = [step.when for step in entries]
    return Route(
        identity,
        body,
        entries,
        cel.Rules(whens) if len(entries) > 1 else None,
        tuple(
            (step.number, step.when.decide)
            for step in entries
            if step.when is not None and step.when.fallible
        ),
        {step.rule.name: step for step in steps},
    )


def _step(identity: Identity, body: RouteBody, number: int) -> Step:
    rule = body.routes[number]
    accept = _accept(rule)
    return Step(
        number,
        rule,
        f"{identity.name}/{rule.name}",
        _when(rule, body),
        accept,
        accept is not None and not LOGPROBS.isdisjoint(accept.checked.words),
        alone=accept is None and not rule.fallback,
        gives_all=rule.respond is None
        and rule.tools == NO_LIMITS
        and (rule.streaming is None or rule.streaming.mode != "Refused"),
    )


def compiling_routes(body: RouteBody) -> Iterator[None]:
    """Compile the rules of a policy one by one: `compile_route` finds them compiled."""
    for rule in body.routes:
        _when(rule, body)
        yield
        _accept(rule)
        yield


def _when(rule: RouteRule, body: RouteBody) -> cel.Rule | None:
    if rule.when is None:
        return None
    return cel.compile_rule(rule.when, cel.WHEN, headers=body.match_headers)


def _accept(rule: RouteRule) -> cel.Rule | None:
    return None if rule.accept_when is None else cel.compile_rule(rule.accept_when, cel.ACCEPT)
