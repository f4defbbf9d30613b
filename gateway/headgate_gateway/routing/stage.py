"""One route on a request's way, and why it went there. Explanations keep it as it is."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from headgate_api.snapshot import Trigger

Why: TypeAlias = Literal["only", "weight", "sticky", "fixed"]
"""Why a target: the only one that is ready; by chance and weight; by the session's, user's or
tenant's key and weight; or there is none, as the answer is fixed."""
PoolKind: TypeAlias = Literal["speculative", "plain"]
"""Pods that guess ahead, and those that do not."""
Routed: TypeAlias = Literal[PoolKind, "shadow", "not_ready"]
"""Where a request went, between the two: as decided; to plain pods, where Auto would have chosen
the others; or where pods are ready, as those that were chosen are not."""
Barred: TypeAlias = Literal["never", "embeddings", "tools", "temperature", "input"]
"""Why a request must not go to pods that guess."""
Dealt: TypeAlias = Literal["share", "rest", "trial", "acceptance", "benefit", "busy"]
"""Why one that may does, or does not: it is of the route's share, or beyond it; one of the few that
go there while guessing is given up, or not one, for what was too low; pods that guess are far
busier than plain ones."""
Result: TypeAlias = Literal["", "given", "accepted", "rejected", "failed", "skipped", "stopped"]
"""Of a stage. Empty: in work. `given`: nothing had to be accepted. `skipped`: never asked.
`stopped`: the client left, or the gateway was told to stop."""


class Speculation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which of a target's pods a request asks first, and why. Fields are an interface."""

    pool: PoolKind
    outcome: Routed
    reason: Barred | Dealt | Literal["absent"]
    """`absent`: no variant that the target allows guesses."""
    acceptance_percent: int | None = None
    """Of the guessed tokens, as judged last; so is the next one. None: that is not known."""
    benefit_percent: int | None = None
    """Of the time per token, what guessing saved."""


class Stage(Struct, kw_only=True):
    """One route on the request's way. Most requests have one."""

    route: str
    trigger: Trigger | None = None
    """It is a fallback, and this is what had happened to the stage before."""
    repair: bool = False
    """The answer before, and what was wrong with it, went into the prompt."""
    model: str = ""
    """The target's metadata.name. Empty: no target is ready, or the answer is fixed."""
    variants: tuple[str, ...] = ()
    """Of those the target lists, the one that was ready first. Empty: any of the model's."""
    why: Why = "only"
    speculation: Speculation | None = None
    """None: the route says nothing of it."""
    result: Result = ""
    reason: str = ""
    """Reason code of what failed; or what of an answer was not as it should be, in short words."""
    words: Mapping[str, object] = {}
    """Of an answer: the words that `acceptWhen` read, without texts."""
    started: float = 0.0
    """s on the event loop's clock."""
    ended: float | None = None
    attempts: tuple[int, int] = (0, 0)
    """Its attempts: from, to, of the timeline's."""
    tokens: tuple[int, int] | None = None
    """What its answer cost, shown or not: those read and those written."""
