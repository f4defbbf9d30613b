"""From what the stages have found out to a call."""

from msgspec import structs

from headgate_gateway.calls.adapter import Form, Task
from headgate_gateway.calls.call import Ask, Backends, Call
from headgate_gateway.calls.source import Source
from headgate_gateway.request import Request
from headgate_gateway.routing.tables import Model
from headgate_gateway.streaming.continued import Continued


def begin(backends: Backends, request: Request, *, plain: bool) -> Source:
    """Ask a request's model, by the rules of its route. `plain`: as in `ask`."""
    whom = ask(request, plain=plain)
    how = request.rule.streaming
    if how is not None and how.on_upstream_loss == "Continue" and not whom.plain:
        return Continued(backends, whom, request.timeline)
    return Call(backends, whom, request.timeline)


def ask(request: Request, *, plain: bool) -> Ask:
    """Put it together. `plain`: nothing is given to the client before the end."""
    policy, task, how = request.policy, request.task, request.rule.streaming
    if how is not None and how.mode == "Buffered" and not plain:
        plain, task = True, held(task)
    return Ask(
        pool=request.model.pool,
        cohorts=request.cohorts,
        prefers=request.prefers,
        task=task,
        plain=plain,
        deadline=request.deadline,
        retries=policy.retries,
        hedging=policy.hedging,
        outliers=policy.outliers,
        allowance=request.allowance,
        id=request.id,
        trace=request.trace,
    )


def ask_another(request: Request, model: Model, task: Task) -> Ask:
    """Put together what to ask of another model than the request's own, which shows no client."""
    whole = ask(request, plain=True)
    return structs.replace(whole, pool=model.pool, cohorts=model.cohorts, prefers=None, task=task)


def held(task: Task) -> Task:
    """Let nothing of the answer go before its end."""
    form = Form(arguments={}, hold=True) if task.form is None else task.form
    return structs.replace(task, form=structs.replace(form, hold=True, whole=True))
