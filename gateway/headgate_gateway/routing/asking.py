"""From what the stages have found out to a call."""

from collections.abc import Mapping

from headgate_api.snapshot import Cohort
from headgate_gateway.calls.adapter import Form, Task
from headgate_gateway.calls.ask import Ask, Backends
from headgate_gateway.calls.call import Call
from headgate_gateway.calls.source import Source
from headgate_gateway.request import Request
from headgate_gateway.routing.speculation import Preferred
from headgate_gateway.routing.tables import Model
from headgate_gateway.streaming.continued import Continued
from headgate_gateway.values import replaced


def begin(backends: Backends, request: Request, *, plain: bool) -> Source:
    """Ask a request's model, by the rules of its route. `plain`: as in `ask`."""
    whom = ask(request, plain=plain)
    how = request.rule.streaming
    if how is not None and how.on_upstream_loss == "Continue" and not whom.plain:
        return Continued(backends, whom, request.timeline)
    return Call(backends, whom, request.timeline)


def ask(request: Request, *, plain: bool) -> Ask:
    """Put it together. `plain`: nothing is given to the client before the end."""
    task, how = request.task, request.rule.streaming
    if how is not None and how.mode == "Buffered" and not plain:
        plain, task = True, held(task)
    return _ask(request, request.model, request.cohorts, task, prefers=request.prefers, plain=plain)


def ask_another(request: Request, model: Model, task: Task) -> Ask:
    """Put together what to ask of another model than the request's own, which shows no client."""
    return _ask(request, model, model.cohorts, task, prefers=None, plain=True)


def _ask(
    request: Request,
    model: Model,
    cohorts: Mapping[str, Cohort],
    task: Task,
    *,
    prefers: Preferred | None,
    plain: bool,
) -> Ask:
    policy = request.policy
    return Ask(
        pool=model.pool,
        cohorts=cohorts,
        prefers=prefers,
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


def held(task: Task) -> Task:
    """Let nothing of the answer go before its end."""
    form = Form(arguments={}, hold=True) if task.form is None else task.form
    return replaced(task, form=replaced(form, hold=True, whole=True))
