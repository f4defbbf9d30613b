"""The routes that a request could come to, and what would be made of it on each.

Nobody knows how a model server will fail, or what an answer will be. So all that a policy says
about it is followed: fallbacks, whatever their triggers, and the later stages of a cascade.
"""

from collections.abc import Awaitable, Iterator
from typing import Final, TypeAlias

from headgate_api.snapshot import Trigger
from headgate_gateway.context.chat import Prepared
from headgate_gateway.edge.chat_request import ChatRequest
from headgate_gateway.explain.explanation import Prospect
from headgate_gateway.refusals import Refusal
from headgate_gateway.request import Request
from headgate_gateway.routing.course import UNASKED
from headgate_gateway.routing.plan import Plan
from headgate_gateway.routing.router import settle
from headgate_gateway.routing.routes import Step
from headgate_gateway.routing.stage import Stage
from headgate_gateway.routing.trial import Ground

After: TypeAlias = dict[str, tuple[Trigger, ...]]
"""Routes that may come before one, and how they fail then. Nothing: in whatever way."""
ANYHOW: Final[tuple[Trigger, ...]] = ()


async def prospects(request: Request, plan: Plan, ground: Ground) -> tuple[Prospect, ...]:
    """Look at every route that could follow the first one. The request stays as it is."""
    models = {plan.first.rule.name: plan.decision.stages[0].model}
    found: list[Prospect] = []
    for name, after in following(plan).items():
        step = plan.route.steps[name]
        if not any(after.values()) and not _takes(plan, step):
            found.append(Prospect(route=name, after=after, reason=UNASKED))
            continue
        stage = Stage(route=name)
        made = await look(_again(request), plan, step, stage, ground)
        models[name] = stage.model
        found.append(_prospect(step, stage, after, made))
        if isinstance(request.asked, ChatRequest):
            found[-1].repair = any(
                "Rejected" in triggers and models.get(before) == stage.model != ""
                for before, triggers in after.items()
            )
    return tuple(found)


def following(plan: Plan) -> dict[str, After]:
    """Find the routes that can come after the first one, in the order in which they would."""
    found: dict[str, After] = {}

    def follow(step: Step) -> None:
        for each in step.rule.fallback:
            if each.route == plan.first.rule.name:
                continue  # it was taken
            fresh = each.route not in found
            found.setdefault(each.route, {})[step.rule.name] = each.triggers
            if fresh:
                follow(plan.route.steps[each.route])

    follow(plan.first)
    before = plan.first
    for step in _stages(plan):
        if _takes(plan, step):
            found.setdefault(step.rule.name, {})[before.rule.name] = ANYHOW
            follow(step)
            before = step
        else:
            found.setdefault(step.rule.name, {before.rule.name: ANYHOW})
    return found


def _stages(plan: Plan) -> Iterator[Step]:
    """List the later stages of a cascade."""
    if plan.route.body.architecture == "Cascade":
        yield from (step for step in plan.route.entries if step.number > plan.first.number)


def _takes(plan: Plan, step: Step) -> bool:
    return step.when is None or step.when.holds(plan.features)


def _again(request: Request) -> Request:
    """Bring a request once more to where a route is taken."""
    made = Request(
        id=request.id,
        head=request.head,
        body=request.body,
        tables=request.tables,
        loaded=request.loaded,
        now=request.now,
        trace=request.trace,
        timeline=request.timeline,
    )
    made.credential, made.asked, made.route = request.credential, request.asked, request.route
    made.decision, made.allowance = request.decision, request.allowance
    return made


async def look(
    request: Request, plan: Plan, step: Step, stage: Stage, ground: Ground
) -> Prepared | Refusal | None:
    """Take a step as far as to where a model server would be asked. None: the answer is fixed."""
    models = ground.models(plan.route.identity.namespace)
    verdict = settle(request, step, stage, models, ground.targets)
    if isinstance(verdict, Refusal):
        return verdict
    if step.rule.respond is not None:
        return None
    found = ground.preparation.prepare(
        request.asked, request.model, step.rule, body=request.body, now=request.now, counts=True
    )
    return await found if isinstance(found, Awaitable) else found


def _prospect(step: Step, stage: Stage, after: After, made: Prepared | Refusal | None) -> Prospect:
    found = Prospect(
        route=step.rule.name,
        after=after,
        model=stage.model or None,
        variants=stage.variants,
        why=stage.why,
        speculation=stage.speculation,
    )
    if isinstance(made, Refusal):
        found.reason = made.code
    elif made is not None:
        found.input_tokens = made.task.input_tokens
        found.max_output_tokens = made.task.sampling.max_tokens
        found.context = None if made.fitted is None else made.fitted.told().decode()
    return found
