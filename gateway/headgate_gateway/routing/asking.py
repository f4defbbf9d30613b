"""From what the stages have found out to what a call is asked."""

from headgate_gateway.calls.call import Ask
from headgate_gateway.request import Request


def ask(request: Request, *, plain: bool) -> Ask:
    """Put it together. `plain`: nothing is given to the client before the end."""
    policy = request.policy
    return Ask(
        pool=request.model.pool,
        cohorts=request.cohorts,
        task=request.task,
        plain=plain,
        deadline=request.deadline,
        retries=policy.retries,
        hedging=policy.hedging,
        outliers=policy.outliers,
        id=request.id,
        trace=request.trace,
    )
