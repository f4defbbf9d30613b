"""What was decided about a request, and why. Kept for whoever asks later; no client's words in it.

What costs something to say in words is not said here: the rules stay compiled, and the words that
they read stay values, until somebody wants an explanation.
"""

from collections.abc import Mapping
from typing import Final, final

from headgate_gateway.routing.routes import Route
from headgate_gateway.routing.stage import Stage

NOTHING: Final[Mapping[int, str]] = {}
UNREAD: Final[Mapping[str, object]] = {}


@final
class Decision:
    """About one request for a name that a RoutingPolicy claims.

    Args:
        route: the policy: its name, and its compiled rules, which can explain themselves.
        rule: which of the policy's routes was entered first.
        stages: in the order in which they began. The last one gave the answer, if there is one.
        errors: routes whose `when` could not be evaluated, and so did not match.
        words: what the rules looked at, by name.
    """

    __slots__ = ("errors", "route", "rule", "stages", "words")

    def __init__(
        self,
        route: Route,
        rule: int,
        stages: list[Stage],
        errors: Mapping[int, str] = NOTHING,
        words: Mapping[str, object] = UNREAD,
    ) -> None:
        self.route = route
        self.rule = rule
        self.stages = stages
        self.errors = errors
        self.words = words
