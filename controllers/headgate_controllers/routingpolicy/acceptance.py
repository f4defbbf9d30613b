"""What can be known of routes before any request: whether one could ever come, and be answered."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from headgate_api.conditions import Mark, Reason
from headgate_api.routes import Route
from headgate_api.routingpolicy import RoutingPolicy, RoutingPolicySpec
from headgate_controllers.contract import Note
from headgate_controllers.standing import together
from headgate_policy.cel import ACCEPT, WHEN, Checked, Problem, Table, Word, check

SCORE: Final = "answer.verifier.score"
_HONORED: Final = Mark(
    "SpecHonored", "True", Reason.ALL_FIELDS_ACTIVE, "all that the policy says is acted on"
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What one route asks of requests and of answers."""

    when: Checked | None
    accept: Checked | None

    @property
    def accept_words(self) -> frozenset[str]:
        return frozenset() if self.accept is None else frozenset(self.accept.words)


def conditions_of(policy: RoutingPolicy) -> tuple[dict[str, Conditions], list[Note]]:
    """Check the expressions of all routes. Returns those that are right, by route, and faults."""
    spec, found, faults = policy.spec, dict[str, Conditions](), list[Note]()
    for route in spec.routes:
        said = [
            _checked(route.when, WHEN, f"{_field(route)}.when", spec),
            _checked(route.accept_when, ACCEPT, f"{_field(route)}.acceptWhen", spec),
        ]
        faults += (one for one in said if isinstance(one, Note))
        when, accept = (None if isinstance(one, Note) else one for one in said)
        found[route.name] = Conditions(when, accept)
        if SCORE in found[route.name].accept_words and route.verifier is None:
            faults.append(
                Note(
                    Reason.INVALID_EXPRESSION,
                    f"{_field(route)}.acceptWhen: {SCORE} has no value without a verifier; "
                    "add one to this route",
                )
            )
    return found, faults


def _checked(
    text: str | None, table: Table, field: str, spec: RoutingPolicySpec
) -> Checked | Note | None:
    if text is None:
        return None
    found = check(text, table, headers=spec.match_headers)
    if isinstance(found, Problem):
        return Note(Reason.INVALID_EXPRESSION, f"{field}: {found}")
    return found


def never(policy: RoutingPolicy, conditions: Mapping[str, Conditions]) -> Iterator[Note]:
    """Find routes to which no request ever comes, or whose answers nobody ever sees."""
    spec = policy.spec
    for route in spec.routes:
        field, said = _field(route), conditions[route.name]
        for name, condition in (("when", said.when), ("acceptWhen", said.accept)):
            if condition is not None and condition.constant is False:
                yield _never(f"{field}.{name}: {condition.remark}")
        if said.when is not None:
            yield from _unclaimed(f"{field}.when", said.when, spec.models)
    if spec.architecture == "Router":
        entries = [route for route in spec.routes if route.role == "Entry"]
        yield from _shadowed(entries, conditions)


def _unclaimed(field: str, when: Checked, models: Sequence[str]) -> Iterator[Note]:
    """A rule may ask for a name that requests of this policy never have."""
    wanted = when.required("request.model")
    if wanted and not wanted.intersection(models):
        names = " or ".join(f'"{name}"' for name in sorted(wanted))
        yield _never(
            f"{field}: request.model is never {names} here; spec.models has {', '.join(models)}"
        )


def _shadowed(entries: Sequence[Route], conditions: Mapping[str, Conditions]) -> Iterator[Note]:
    """Of a Router the first route that fits has the request; later ones may get none."""
    taken: dict[tuple[str, ...], str] = {}
    for route, following in pairwise(entries):
        if (when := conditions[route.name].when) is None:
            continue
        if when.constant is True:
            yield _never(
                f"{_field(route)}.when: {when.remark}, so that route {following.name} after it "
                "is never reached; write this route last, without when"
            )
        if earlier := next((taken[part] for part in when.joined("&&") if part in taken), None):
            yield _never(
                f"{_field(route)}.when: route {earlier} before it takes every such request; "
                "change one of the two, or write this one first"
            )
        for part in when.joined("||"):
            taken.setdefault(part, route.name)


def _never(sentence: str) -> Note:
    return Note(Reason.ROUTE_NEVER_MATCHES, sentence)


def loops(policy: RoutingPolicy) -> Iterator[Note]:
    """Find routes that fall back to each other in a circle. Several that meet are told as one."""
    leads = {route.name: [to.route for to in route.fallback] for route in policy.spec.routes}
    done: set[str] = set()
    for start in leads:
        if circle := _circle(start, leads, [], done):
            sentence = (
                f"spec.routes[{circle[0]}].fallback: routes fall back to each other in a circle: "
                f"{' -> '.join(circle)}; remove one of these fallbacks"
            )
            yield Note(Reason.FALLBACK_LOOP, sentence)


def _circle(
    at: str, leads: Mapping[str, Sequence[str]], way: list[str], done: set[str]
) -> list[str]:
    """Follow fallbacks from `at`; a route that is met again on the way closes a circle."""
    if at in way:
        return [*way[way.index(at) :], at]
    if at in done:
        return []
    done.add(at)
    return next(
        filter(None, (_circle(to, leads, [*way, at], done) for to in leads.get(at, ()))), []
    )


def honored(findings: Sequence[Note]) -> Mark:
    """Tell what of the policy has no effect."""
    if not findings:
        return _HONORED
    return Mark("SpecHonored", "False", findings[0].reason, together(findings))


def unmeasured(policy: RoutingPolicy, conditions: Mapping[str, Conditions]) -> Iterator[Note]:
    """Find words of conditions that nothing measures yet."""
    for route in policy.spec.routes:
        for name, condition in (
            ("when", conditions[route.name].when),
            ("acceptWhen", conditions[route.name].accept),
        ):
            for word in sorted(condition.unmeasured if condition is not None else ()):
                # No other table has such words.
                yield _unmeasured(f"{_field(route)}.{name}", WHEN.words[word])


def _unmeasured(field: str, word: Word) -> Note:
    meanwhile = "it has no value, so what reads it does not hold"
    if not word.optional:
        meanwhile = f"it is {word.values[0]} in every request"
    return Note(
        Reason.NOT_SUPPORTED_HERE, f"{field}: nothing measures {word.name} yet; {meanwhile}"
    )


def _field(route: Route) -> str:
    return f"spec.routes[{route.name}]"
