"""The rules of a policy, compiled: which holds first for a request, and why."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any, Final

from headgate_api.errors import Invalid
from headgate_policy.cel.check import Checker
from headgate_policy.cel.compile import compiled
from headgate_policy.cel.conclude import constant, decisive, required
from headgate_policy.cel.cost import check_cost
from headgate_policy.cel.explain import Teller, teller
from headgate_policy.cel.functions import Failed
from headgate_policy.cel.lexer import tokens
from headgate_policy.cel.parser import parse
from headgate_policy.cel.problems import Problem, Refused
from headgate_policy.cel.terms import Has, Logic, Read, Term, fallible, within
from headgate_policy.cel.words import Table

INDEXED: Final = ("request.model", "tenant.name")
"""A rule that asks these for another value than a request has is not evaluated for it."""

_CHAINS: Final = 1024
"""Combinations of values for which the rules that are left are remembered."""


class Checked:
    """An expression that is right. What is asked about it is found when it is asked."""

    def __init__(self, text: str, term: Term) -> None:
        self.text = text
        self.term = term
        self._read = {
            part.word.name: part.word for part in within(term) if isinstance(part, Read | Has)
        }
        self.words = frozenset(self._read)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Words that nothing measures yet: reading one fails, or finds the same at all times."""
        return tuple(sorted(name for name, word in self._read.items() if not word.measured))

    @cached_property
    def constant(self) -> bool | None:
        """True, False: the rule always holds, it never does. None: that depends on the request."""
        return constant(self.term)

    @property
    def remark(self) -> Problem | None:
        """Say which part makes the rule constant."""
        if self.constant is None:
            return None
        by = decisive(self.term, self.constant)
        ever = "is always true" if self.constant else "is never true"
        message = f"the expression {ever}"
        if by is not self.term:
            message = f"{self.text[by.start : by.end]} {ever}, so {message}"
        return Problem.at(by.start, message, self.text)

    def required(self, word: str) -> frozenset[str] | None:
        """Give the values of which `word` must have one for the rule to hold. None: any value."""
        return required(self.term, word)

    def joined(self, sign: str) -> Iterator[tuple[str, ...]]:
        """Give the rule, and what it joins by `sign`, as tokens: spaces do not tell them apart."""
        terms = [self.term]
        if isinstance(self.term, Logic) and self.term.sign == sign:
            terms += self.term.sides
        for term in terms:
            yield tuple(token.text for token in tokens(self.text[term.start : term.end]))


class Rule:
    """A checked expression that runs."""

    def __init__(self, checked: Checked) -> None:
        self.checked = checked
        self.fallible = fallible(checked.term)
        self.decide: Callable[[Any], bool] = compiled(checked.term)
        """Tell whether the rule is true of features. Raises `Failed` if it is fallible."""
        self.holds = self._holds if self.fallible else self.decide
        """The same, but that what fails does not hold."""

    def _holds(self, features: Any) -> bool:
        try:
            return self.decide(features)
        except Failed:
            return False

    @cached_property
    def explain(self) -> Teller:
        """Tell for features whether the rule holds, and which of its parts decided."""
        return teller(self.checked.term, self.checked.text)


class Rules:
    """Rules in order. One that is None has no expression, and always holds."""

    def __init__(self, rules: Sequence[Rule | None]) -> None:
        self._rules = rules
        self._index = [
            (attrgetter(word.replace(".", "_")), *masks)
            for word in INDEXED
            if (masks := self._masks(word)) is not None
        ]
        self._all = (1 << len(rules)) - 1
        self._chains: dict[int, tuple[tuple[int, Callable[[Any], bool]], ...]] = {}

    def first(self, features: Any) -> int | None:
        """Give the index of the first rule that holds."""
        left = self._all
        for value, masks, others in self._index:
            left &= masks.get(value(features), others)
        chain = self._chains.get(left)
        for index, holds in self._chain(left) if chain is None else chain:
            if holds(features):
                return index
        return None

    def _masks(self, word: str) -> tuple[dict[str, int], int] | None:
        """Sort the rules by what they ask of `word`: a bit each, per value and for all others."""
        asked = [None if rule is None else rule.checked.required(word) for rule in self._rules]
        values = frozenset().union(*(one for one in asked if one is not None))
        if not values:
            return None
        others = _bits(one is None for one in asked)
        return {
            value: _bits(one is None or value in one for one in asked) for value in values
        }, others

    def _chain(self, left: int) -> tuple[tuple[int, Callable[[Any], bool]], ...]:
        chain = tuple(
            (index, _always if rule is None else rule.holds)
            for index, rule in enumerate(self._rules)
            if left >> index & 1
        )
        if len(self._chains) < _CHAINS:
            self._chains[left] = chain
        return chain


def check(expression: str, table: Table, *, headers: Collection[str] = ()) -> Checked | Problem:
    """Check an expression for the field of `table`, which may read the named request headers."""
    try:
        node = parse(expression)
        term = Checker(expression, table, headers).condition(node)
        check_cost(term, table.budget)
    except Refused as refused:
        return Problem.at(refused.at, refused.message, expression)
    return Checked(expression, term)


def compile_rule(expression: str, table: Table, *, headers: Collection[str] = ()) -> Rule:
    """Compile one expression, once. Raises `Invalid`: it should have been refused before."""
    return _compiled(expression, table, frozenset(headers))


@lru_cache(maxsize=4096)
def _compiled(expression: str, table: Table, headers: frozenset[str]) -> Rule:
    match check(expression, table, headers=headers):
        case Problem() as problem:
            raise Invalid(f"{table.field}: {problem}")
        case checked:
            return Rule(checked)


def _always(_: Any) -> bool:
    return True


def _bits(answers: Iterable[bool]) -> int:
    return sum(1 << at for at, answer in enumerate(answers) if answer)
