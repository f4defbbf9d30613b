"""One route as gateways know it."""

from typing import get_args

from headgate_api.routes import (
    Context,
    Fallback,
    Generation,
    GenerationCaps,
    GenerationDefaults,
    Route,
    Target,
    Tools,
    Verifier,
)
from headgate_api.snapshot import (
    ContextBody,
    FallbackBody,
    GenerationBody,
    RouteRule,
    SpeculationBody,
    StreamingBody,
    Target as TargetBody,
    ToolsBody,
    Trigger,
    VerifierBody,
)
from headgate_api.speculation import Speculation
from headgate_api.streaming import Streaming


def rule(route: Route, instructions: str) -> RouteRule:
    """Build the rule of one route.

    Args:
        route: the route.
        instructions: of its verifier, if it has one.
    """
    return RouteRule(
        name=route.name,
        fallback_only=route.role == "Fallback",
        when=route.when,
        accept_when=route.accept_when,
        targets=tuple(map(_target, route.targets)),
        respond=None if route.respond is None else route.respond.message,
        generation=_generation(route.generation or Generation()),
        streaming=_streaming(route.streaming),
        speculative=None if route.speculative is None else _speculation(route.speculative),
        tools=_tools(route.tools or Tools()),
        context=_context(route.context or Context()),
        verifier=_verifier(route.verifier, instructions),
        fallback=tuple(map(_fallback, route.fallback)),
    )


def _target(said: Target) -> TargetBody:
    return TargetBody(model=said.model_ref.name, weight=said.weight, variants=said.variants)


def _generation(said: Generation) -> GenerationBody:
    defaults, caps = said.defaults or GenerationDefaults(), said.caps or GenerationCaps()
    return GenerationBody(
        temperature=defaults.temperature,
        top_p=defaults.top_p,
        seed=defaults.seed,
        max_output_tokens=defaults.max_output_tokens,
        cap_temperature=caps.temperature,
        cap_max_output_tokens=caps.max_output_tokens,
    )


def _streaming(said: Streaming) -> StreamingBody:
    return StreamingBody(
        mode=said.mode,
        boundary=said.boundary,
        max_characters=said.max_characters,
        max_hold=float(said.max_hold),
        heartbeat=float(said.heartbeat),
        on_upstream_loss=said.on_upstream_loss,
    )


def _speculation(said: Speculation) -> SpeculationBody:
    return SpeculationBody(
        mode=said.mode,
        percent=said.percent,
        min_acceptance_percent=said.min_acceptance_percent,
        min_benefit_percent=said.min_benefit_percent,
        max_input_tokens=said.max_input_tokens,
        max_temperature=said.max_temperature,
        tool_calls=said.tool_calls,
    )


def _tools(said: Tools) -> ToolsBody:
    return ToolsBody(forbidden=said.mode == "Forbidden", max_iterations=said.max_iterations)


def _context(said: Context) -> ContextBody:
    return ContextBody(
        max_input_tokens=said.max_input_tokens,
        truncate=said.on_overflow == "Truncate",
        keep_turns=said.keep_turns,
        max_tokens_per_source=said.max_tokens_per_source,
        drop_first=said.drop_first,
    )


def _verifier(said: Verifier | None, instructions: str) -> VerifierBody | None:
    if said is None:
        return None
    return VerifierBody(
        model=said.model_ref.name,
        instructions=instructions,
        max_output_tokens=said.max_output_tokens,
    )


def _fallback(said: Fallback) -> FallbackBody:
    # In one order, whatever the manifest's: equal policies are equal.
    triggers = tuple(trigger for trigger in get_args(Trigger) if trigger in said.triggers)
    return FallbackBody(route=said.route, triggers=triggers)
