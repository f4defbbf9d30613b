"""What a call is told: the question and its rules, and what it shares with all other calls."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, final

from msgspec import structs

from headgate_api.snapshot import Cohort, HedgingBody, OutlierBody, RetryBody
from headgate_gateway.calls.adapter import Task
from headgate_gateway.calls.alarms import Alarms
from headgate_gateway.calls.allowance import Allowance
from headgate_gateway.calls.deadline import Deadline
from headgate_gateway.calls.stops import Stops
from headgate_gateway.calls.traffic import Traffics
from headgate_gateway.routing.pods import Pod, Pods, Pool
from headgate_gateway.routing.speculation import Preferred
from headgate_gateway.telemetry.trace_context import Trace

NOBODY: Final[frozenset[Pod]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What no policy says: how long a call waits for what, in s."""

    connect: float = 2.0
    beat: float = 15.0  # between two signs of life


@final
class Ask:
    """What to ask, whom, and by which rules.

    Args:
        pool: the model's pods.
        cohorts: of them, by name, those that may be asked.
        prefers: which of them go first; None: all are alike.
        task: what to do.
        plain: nothing is given to the client before the end.
        deadline: of the request.
        retries: rules for asking again.
        hedging: rules for asking a second pod; None: never.
        outliers: when a pod that fails is set aside.
        allowance: of the request; None: it has no limits.
        id: of the request.
        trace: of the request.
        avoid: pods that have failed it: it is a retry.
    """

    __slots__ = (
        "allowance",
        "avoid",
        "cohorts",
        "deadline",
        "hedging",
        "id",
        "outliers",
        "plain",
        "pool",
        "prefers",
        "retries",
        "task",
        "trace",
    )

    def __init__(
        self,
        *,
        pool: Pool,
        cohorts: Mapping[str, Cohort],
        prefers: Preferred | None = None,
        task: Task,
        plain: bool,
        deadline: Deadline,
        retries: RetryBody,
        hedging: HedgingBody | None,
        outliers: OutlierBody,
        allowance: Allowance | None = None,
        id: str,  # noqa: A002 - as in requests
        trace: Trace,
        avoid: frozenset[Pod] = NOBODY,
    ) -> None:
        self.pool = pool
        self.cohorts = cohorts
        self.prefers = prefers
        self.task = task
        self.plain = plain
        self.deadline = deadline
        self.retries = retries
        self.hedging = hedging
        self.outliers = outliers
        self.allowance = allowance
        self.id = id
        self.trace = trace
        self.avoid = avoid

    def elsewhere(self, cohort: Cohort, task: Task, avoid: frozenset[Pod]) -> "Ask":
        """Ask once more, and of this cohort alone, what is left to do after `avoid` failed."""
        return Ask(
            pool=self.pool,
            cohorts={cohort.name: cohort},
            task=task,
            plain=self.plain,
            deadline=self.deadline,
            retries=structs.replace(self.retries, max_attempts=1),
            hedging=None,
            outliers=self.outliers,
            allowance=self.allowance,
            id=self.id,
            trace=self.trace,
            avoid=avoid,
        )


@final
class Backends:
    """What all calls share: who can be asked, and how it has gone lately.

    Args:
        pods: all of them.
        patience: how long to wait.
        clock: as the event loop's, which is a millisecond coarse and stands still within a turn.
    """

    def __init__(
        self,
        pods: Pods,
        patience: Patience,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pods = pods
        self.patience = patience
        self.clock = clock
        self.traffics = Traffics()
        self.stops = Stops()
        self.alarms = Alarms()
