"""Whether a failed attempt is followed by another one, and how soon. Pure.

An attempt may be repeated only while the client has seen nothing of it. Even then most repeats do
harm: a model server that is down or full gets the more to do the worse it is. Hence three bounds: a
number of attempts for each request, a share of the requests in work for all of them, and a pause
that grows and differs from request to request.
"""

from typing import Final

from headgate_api.snapshot import RetryBody, RetryOn
from headgate_gateway.refusals import Code

KINDS: Final[dict[Code, RetryOn]] = {
    Code.UPSTREAM_LOST: "Reset",
    Code.UPSTREAM_OVERLOADED: "Overloaded",
    Code.UPSTREAM_UNAVAILABLE: "Unavailable",
    Code.UPSTREAM_TIMEOUT: "FirstTokenTimeout",
    Code.INVALID_OUTPUT: "InvalidOutput",
}
"""What a failure is to `retries.retryOn`. Others are never repeated: what breaks one model server
would break the next."""
COSTLY: Final[frozenset[RetryOn]] = frozenset({"FirstTokenTimeout", "InvalidOutput"})
"""Failures that have cost the model's time already: the same call would cost it again."""


def backoff(policy: RetryBody, retry: int, chance: float) -> float:
    """Tell how long to wait before a retry: full jitter over an exponential ceiling.

    Args:
        policy: base and ceiling of the pause, in s.
        retry: number of the retry, from 1.
        chance: from [0, 1).

    >>> backoff(RetryBody(), 1, 0.5), backoff(RetryBody(), 9, 0.5)
    (0.05, 1.0)
    """
    ceiling = min(policy.backoff_max, policy.backoff_base * 2.0 ** min(retry - 1, 32))
    return chance * ceiling


def retries_allowed(policy: RetryBody, active: int) -> int:
    """Count how many requests may be retrying at once while `active` are in work.

    With a share p of them retrying, each request costs at most 1 / (1 - p) attempts.

    >>> [retries_allowed(RetryBody(), active) for active in (1, 32, 100)]
    [3, 6, 20]
    """
    return max(policy.min_concurrent, policy.budget_percent * active // 100)
