"""What guessing ahead is worth to a route, by its answers lately. Pure: no clock and no chance.

Requests that may be guessed for are dealt between pods that guess and plain ones, so their answers
are a fair comparison. Four sentences are the rule:

1. While guessing is worth it, `percent` of them go to pods that guess; while it is not, few do.
   Plain pods get at least `TRIAL` percent, and the others as much where `percent` allows it, or
   there would be nothing to compare.
2. After every `ROUND` answers of pods that guess it is judged anew, by these answers alone.
3. It is given up where one of the two measures is below what the route asks for, and taken up again
   where both are `MARGIN` points above.
4. What is not known changes nothing.

Whatever is worth it, no crowd forms before a few pods that guess: see `crowded`.

So between two changes there is always a whole round, and what hovers at a threshold changes at most
once.
"""

from collections.abc import Collection, Sequence
from typing import Final, Literal, TypeAlias, final

from headgate_api.snapshot import Cohort, SpeculationBody
from headgate_gateway.calls.events import Usage

TRIAL: Final = 5
"""Percent of the requests that keep the less favoured pods measured."""
ROUND: Final = 30
"""Answers of pods that guess, after which is judged."""
KEPT: Final = 2 * ROUND
"""Answers of one level that weigh in full; what is older is halved."""
MARGIN: Final = 5
"""Points above a threshold at which guessing comes back."""
CROWD: Final = 8
"""Requests at a pod that guesses for each one at a plain pod, and for the one that comes."""
PAIRS: Final = 10
"""Answers of either kind, at like load, below which a comparison would be an accident."""
LEVELS: Final = 10
"""Of load: 1 request at the pod, 2 and 3, 4 to 7 and so on; the last one has no end."""

Measure: TypeAlias = Literal["acceptance", "benefit"]


@final
class Answered:
    """What one answer says about guessing.

    Args:
        guesses: its pod does.
        load: requests at the pod, this one included.
        tokens: after the first one. 0: nobody knows how many.
        seconds: that they took.
        drafted: guessed tokens. 0: the model server does not tell.
        accepted: of them.
    """

    __slots__ = ("accepted", "drafted", "guesses", "load", "seconds", "tokens")

    def __init__(
        self,
        *,
        guesses: bool,
        load: int,
        tokens: int = 0,
        seconds: float = 0.0,
        drafted: int = 0,
        accepted: int = 0,
    ) -> None:
        self.guesses = guesses
        self.load = load
        self.tokens = tokens
        self.seconds = seconds
        self.drafted = drafted
        self.accepted = accepted


@final
class Pace:
    """How fast answers were written at one level of load. Newer ones weigh more."""

    __slots__ = ("answers", "seconds", "tokens")

    def __init__(self) -> None:
        self.answers = self.tokens = self.seconds = 0.0

    def add(self, answered: Answered) -> None:
        if self.answers >= KEPT:
            self.answers, self.tokens, self.seconds = (
                self.answers / 2,
                self.tokens / 2,
                self.seconds / 2,
            )
        self.answers += 1
        self.tokens += answered.tokens
        self.seconds += answered.seconds


class Worth:
    """What guessing is worth, so far."""

    def __init__(self) -> None:
        self.given_up: Measure | None = None
        """What was too low. None: guessing is worth it."""
        self.acceptance: float | None = None
        """Percent of the guessed tokens that were accepted, when it was judged last."""
        self.benefit: float | None = None
        """Percent of the time per token that guessing saved, when it was judged last."""
        self._plain = paces()
        self._begin()

    def _begin(self) -> None:
        self._answers = self._drafted = self._accepted = 0
        self._guessing = paces()

    def share(self, percent: int) -> int:
        """Tell which percent of the requests go to pods that guess, where a route says `percent`.

        >>> Worth().share(60), Worth().share(100)
        (60, 95)
        """
        return min(percent, 100 - TRIAL if self.given_up is None else TRIAL)

    def learn(self, answered: Answered, said: SpeculationBody) -> None:
        """Take an answer into account, and judge when it is time."""
        if answered.tokens:
            known = self._guessing if answered.guesses else self._plain
            known[min(answered.load.bit_length(), LEVELS) - 1].add(answered)
        if answered.guesses and (answered.tokens or answered.drafted):
            self._answers += 1
            self._drafted += answered.drafted
            self._accepted += answered.accepted
            if self._answers == ROUND:
                self._judge(said)

    def _judge(self, said: SpeculationBody) -> None:
        self.acceptance = 100 * self._accepted / self._drafted if self._drafted else None
        self.benefit = benefit(self._guessing, self._plain)
        self._begin()
        found: dict[Measure, tuple[float | None, int]] = {
            "acceptance": (self.acceptance, said.min_acceptance_percent),
            "benefit": (self.benefit, said.min_benefit_percent),
        }
        margin = 0 if self.given_up is None else MARGIN
        for measure, (value, least) in found.items():
            if value is not None and value < min(100, least + margin):
                self.given_up = measure
                return
        if self.given_up is not None and found[self.given_up][0] is not None:
            self.given_up = None


def crowded(guessing: int, plain: int) -> bool:
    """Tell whether a request had better go to a plain pod, as pods that guess are far busier.

    Args:
        guessing: requests at the least busy pod that guesses.
        plain: requests at the least busy plain pod.

    >>> crowded(7, 0), crowded(8, 0), crowded(8, 1)
    (False, True, False)
    """
    return guessing + 1 > CROWD * (plain + 1)


def paces() -> list[Pace]:
    return [Pace() for _ in range(LEVELS)]


def benefit(guessing: Sequence[Pace], plain: Sequence[Pace]) -> float | None:
    """Tell how many percent of the time per token guessing saves, at like load; None: unknown.

    Only answers at the same level of load are compared, as guessing helps idle pods and hinders
    busy ones. The levels are put together by Mantel and Haenszel's ratio of rates, in which a level
    counts by what is known there of both, and not at all where one of them is missing.
    """
    took = would = pairs = 0.0
    for guessed, other in zip(guessing, plain, strict=True):
        if guessed.tokens and other.tokens:
            tokens = guessed.tokens + other.tokens
            took += guessed.seconds * other.tokens / tokens
            would += other.seconds * guessed.tokens / tokens
            pairs += min(guessed.answers, other.answers)
    return 100 * (1 - took / would) if pairs >= PAIRS and would else None


@final
class Preferred:
    """Cohorts that a request asks first, and what its answer is evidence for.

    Args:
        cohorts: names. Others of the request's answer where these do not.
        said: of the route.
        worth: None: the request was not dealt, so its answer compares with no other.
    """

    __slots__ = ("cohorts", "said", "worth")

    def __init__(
        self, cohorts: Collection[str], said: SpeculationBody, worth: Worth | None
    ) -> None:
        self.cohorts = cohorts
        self.said = said
        self.worth = worth

    def answered(self, cohort: Cohort, usage: Usage, *, load: int, seconds: float | None) -> None:
        """Learn from an answer that is complete: see `evidence`."""
        if self.worth is not None:
            self.worth.learn(evidence(cohort, usage, load=load, seconds=seconds), self.said)


def evidence(cohort: Cohort, usage: Usage, *, load: int, seconds: float | None) -> Answered:
    """Find what an answer says about guessing, as far as its model server counts.

    Args:
        cohort: that gave it.
        usage: what it cost.
        load: requests at its pod, this one included.
        seconds: from its first text to its end. None: it has no text.
    """
    # A step of a model server that guesses writes several tokens: events do not count them.
    guessed = cohort.speculative and usage.estimated and usage.drafted_tokens is None
    timed = seconds is not None and not guessed
    return Answered(
        guesses=cohort.speculative,
        load=load,
        tokens=max(0, usage.output_tokens - 1) if timed else 0,
        seconds=seconds or 0.0,
        drafted=usage.drafted_tokens or 0,
        accepted=usage.accepted_tokens or 0,
    )
