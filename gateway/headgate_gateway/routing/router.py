"""Stage `routing`: which route of a RoutingPolicy takes the request, and where it leads.

A policy that claims the name goes first, then the model that has it. Most requests have one route
and one target; they are settled here. One whose answer has to be accepted, or that may fall back,
gets a plan, and its targets are chosen when it comes to them.
"""

from collections.abc import Mapping
from typing import Final

from headgate_api.snapshot import RouteRule
from headgate_gateway.calls.allowance import Allowance
from headgate_gateway.calls.failures import NOT_READY
from headgate_gateway.edge.asked import Generation
from headgate_gateway.edge.body_reader import unsupported
from headgate_gateway.edge.chat_request import ChatRequest
from headgate_gateway.refusals import PASS, Code, Refusal, Verdict
from headgate_gateway.request import Request
from headgate_gateway.routing.decision import Decision
from headgate_gateway.routing.features import Features, Surroundings, tools
from headgate_gateway.routing.plan import Plan
from headgate_gateway.routing.routes import Route, Step
from headgate_gateway.routing.stage import Stage
from headgate_gateway.routing.targets import Models, Targets
from headgate_policy.cel import Failed

UNKNOWN: Final = Refusal(
    Code.MODEL_NOT_FOUND, 404, "This model does not exist, or your key may not use it.", "model"
)
"""Missing and forbidden look the same: nobody learns the names of models that are not theirs."""
NO_TOOLS: Final = Refusal(
    Code.UNSUPPORTED_PARAMETER, 400, "The route of this request allows no tools.", "tools"
)
NO_STREAM: Final = Refusal(
    Code.UNSUPPORTED_VALUE,
    400,
    "The route of this request gives no streams: leave 'stream' out.",
    "stream",
)


class Router:
    name = "routing"
    undecided = NOT_READY
    budget = 1.0

    def __init__(self, targets: Targets, around: Surroundings) -> None:
        self.targets = targets
        self.around = around

    def decide(self, request: Request) -> Verdict:
        tenant, name = request.credential.tenant, request.asked.model
        if not tenant.may_use(name):
            return UNKNOWN
        if tenant.limits is not None:
            request.allowance = Allowance(tenant.limits)
        space = request.tables.space(tenant.namespace)
        route = space.routes.get(name)
        if route is None:
            model = space.models.get(name)
            if model is None:
                return UNKNOWN
            chosen = self.targets.direct(model)
            if isinstance(chosen, Refusal):
                return chosen
            request.model, request.cohorts = chosen.model, chosen.cohorts
            return PASS
        request.route = route
        return self._along(request, route, space.objects)

    def _along(self, request: Request, route: Route, models: Models) -> Verdict:
        step = route.entries[0]
        if route.when is None and step.alone:  # as of most policies: nothing to find out
            stage = Stage(route=step.rule.name)
            request.decision = Decision(route, step.number, [stage])
            return settle(request, step, stage, models, self.targets)
        features = Features(request, self.around)
        step = enter(route, features)
        request.rule = step.rule
        decision = request.decision = Decision(route, step.number, [])
        if route.when is not None:
            decision.errors = errors(route, step.number, features)
            decision.words = features.read()
        if not step.alone:
            request.plan = Plan(route, decision, step, features)
            return PASS
        stage = Stage(route=step.rule.name)
        decision.stages.append(stage)
        return settle(request, step, stage, models, self.targets)


def enter(route: Route, features: Features) -> Step:
    """Find the route that a request enters by."""
    if route.when is None:
        return route.entries[0]
    found = route.when.first(features)
    return route.entries[-1 if found is None else found]


def errors(route: Route, end: int, features: Features) -> Mapping[int, str]:
    """Find the routes before number `end` whose `when` could not be evaluated, and say why."""
    found: dict[int, str] = {}
    for number, decide in route.doubtful:
        if number >= end:
            break
        try:
            decide(features)
        except Failed as failed:
            found[number] = str(failed)
    return found


def settle(request: Request, step: Step, stage: Stage, models: Models, targets: Targets) -> Verdict:
    """Bring a request on its way along a route: see what the route allows, and choose its target.

    Args:
        request: gets the route's rule, and the model and cohorts that are to answer.
        step: the route.
        stage: gets the target, and why it was chosen.
        models: of the namespace, by metadata.name.
        targets: chooses.
    """
    rule = request.rule = step.rule
    if not step.gives_all and (no := beyond(request, rule)) is not None:
        return no
    if rule.respond is not None:
        stage.why = "fixed"
        return PASS
    chosen = targets.of(request, step, models)
    if isinstance(chosen, Refusal):
        return chosen
    request.model, request.cohorts, request.prefers = chosen.model, chosen.cohorts, None
    stage.model, stage.why = chosen.model.identity.name, chosen.why
    if chosen.variant:
        stage.variants = (chosen.variant,)
    if rule.speculative is not None:
        targets.speculating.choose(request, step, stage, rule.speculative, chosen.listed)
    return PASS


def beyond(request: Request, rule: RouteRule) -> Refusal | None:
    """Find what the request asks for and the route does not give."""
    asked = request.asked
    if rule.streaming is not None and rule.streaming.mode == "Refused" and asked.streams:
        return NO_STREAM
    if rule.respond is not None and not isinstance(asked, Generation):
        return unsupported("input")
    if not isinstance(asked, ChatRequest):
        return None
    limits = rule.tools
    if limits.forbidden and tools(asked):
        return NO_TOOLS
    if limits.max_iterations is not None and iterations(asked) >= limits.max_iterations:
        sentence = (
            f"The route of this request allows {limits.max_iterations} answers with calls of tools "
            "since the user's last message."
        )
        return Refusal(Code.TOOL_ITERATIONS_EXCEEDED, 400, sentence, "messages")
    return None


def iterations(chat: ChatRequest) -> int:
    """Count the answers with calls of tools since the user said something last."""
    count = 0
    for message in reversed(chat.messages):
        if message.role == "user":
            break
        count += bool(message.tool_calls)
    return count
