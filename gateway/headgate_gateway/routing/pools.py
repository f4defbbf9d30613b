"""Which pods of a model a request asks first: those that guess ahead, or plain ones.

A model server guesses for all of its requests or for none, and answers the same either way. So a
route that says something of speculation deals its requests between two pools of a target's pods;
where the one that was chosen cannot serve, the other one does.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from headgate_api.snapshot import Cohort, RouteRule, SpeculationBody
from headgate_gateway.calls.generation import USUAL_TEMPERATURE, temperature
from headgate_gateway.context.counting import estimate_input
from headgate_gateway.edge.asked import Generation
from headgate_gateway.request import Request
from headgate_gateway.routing.features import tools
from headgate_gateway.routing.pods import Pods
from headgate_gateway.routing.routes import Step
from headgate_gateway.routing.speculation import Preferred, Worth, crowded
from headgate_gateway.routing.stage import (
    Barred,
    Dealt,
    PoolKind,
    Routed,
    Speculation,
    Stage,
)
from headgate_gateway.routing.stickiness import falls, sticky_key, turn
from headgate_gateway.routing.tables import Model
from headgate_gateway.telemetry.series import MOST
from headgate_gateway.telemetry.speculation import Judged, Place, SpeculationMetrics

NONE: Final[Mapping[str, Cohort]] = {}
OTHER: Final[Mapping[PoolKind, PoolKind]] = {"speculative": "plain", "plain": "speculative"}
Preference: TypeAlias = Sequence[Mapping[str, Cohort]]
"""Cohorts by name: one of the first ones, else of the next, and so on."""


@dataclass(slots=True)
class Speculating:
    """Chooses between the two, by what guessing was worth in each place."""

    pods: Pods
    metrics: SpeculationMetrics
    chance: random.Random = field(default_factory=random.Random)
    _worths: dict[Place, tuple[frozenset[str], Worth]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metrics.judged = self.judged

    def choose(
        self,
        request: Request,
        step: Step,
        stage: Stage,
        said: SpeculationBody,
        listed: tuple[str, ...],
    ) -> None:
        """Choose a pool of the model that a request goes to.

        Args:
            request: gets the cohorts that may answer, and which of them are asked first.
            step: its route.
            stage: gets what was chosen, and why.
            said: what the route says of speculation.
            listed: variants that the target lists, in its order; empty: all of the model's.
        """
        model = request.model
        guessing = _preference(model, listed, guesses=True)
        if not any(guessing):
            told = Speculation(pool="plain", outcome="plain", reason="absent")
        else:
            ready: dict[PoolKind, Mapping[str, Cohort]] = {
                "speculative": self._ready(model, guessing),
                "plain": self._ready(model, _preference(model, listed, guesses=False)),
            }
            worth = self._worth(model, step, guessing)
            told = self._deal(request, step, said, worth, ready)
            stage.variants = _variants(ready[told.pool])
        stage.speculation = told
        namespace = model.identity.namespace
        self.metrics.decisions.of(namespace, step.label, told.outcome, told.reason).add()

    def judged(self) -> Iterator[Judged]:
        """Tell what was found out in each place."""
        for place, (_, worth) in self._worths.items():
            yield Judged(place, worth.given_up is None, worth.acceptance, worth.benefit)

    def _deal(
        self,
        request: Request,
        step: Step,
        said: SpeculationBody,
        worth: Worth,
        ready: Mapping[PoolKind, Mapping[str, Cohort]],
    ) -> Speculation:
        shadow = said.mode == "Shadow"
        bar = barred(request, step.rule, said)
        reason = bar or self._dealt(request, step, said, worth)
        evidence = worth if bar is None and not shadow else None
        if reason in ("share", "trial") and self._crowded(request.model, ready):
            reason = "busy"
        chosen: PoolKind = "speculative" if reason in ("share", "trial") else "plain"
        served: PoolKind = "plain" if shadow else chosen
        outcome: Routed = "shadow" if served != chosen else served
        if not ready[served]:
            served, outcome = OTHER[served], "not_ready"
        first = ready[served]
        request.cohorts = {**first, **ready[OTHER[served]]}
        request.prefers = Preferred(first.keys(), said, evidence)
        return Speculation(
            pool=served,
            outcome=outcome,
            reason=reason,
            acceptance_percent=_whole(worth.acceptance),
            benefit_percent=_whole(worth.benefit),
        )

    def _dealt(self, request: Request, step: Step, said: SpeculationBody, worth: Worth) -> Dealt:
        """Deal a request for which may be guessed: by its session if it has one, else by chance."""
        percent = worth.share(said.percent)
        stickiness = request.policy.stickiness
        key = sticky_key(stickiness, request)
        if key is None:
            guesses = self.chance.random() * 100 < percent
        else:
            place = f"\0{step.label}\0speculative".encode()
            guesses = falls(turn(key, request.now, stickiness.ttl) + place, percent)
        if worth.given_up is None:
            return "share" if guesses else "rest"
        return "trial" if guesses else worth.given_up

    def _crowded(self, model: Model, ready: Mapping[PoolKind, Mapping[str, Cohort]]) -> bool:
        if not (ready["speculative"] and ready["plain"]):
            return False
        guessing, plain = (
            min(pod.in_flight for pod in self.pods.ready(model.pool, ready[kind]))
            for kind in ("speculative", "plain")
        )
        return crowded(guessing, plain)

    def _ready(self, model: Model, preference: Preference) -> Mapping[str, Cohort]:
        ready = self.pods.ready
        return next((c for c in preference if c and ready(model.pool, c)), NONE)

    def _worth(self, model: Model, step: Step, guessing: Preference) -> Worth:
        """Find what guessing is worth. Of other cohorts nothing is known yet."""
        cohorts = {name: cohort for each in guessing for name, cohort in each.items()}
        identity, variants = model.identity, "+".join(_variants(cohorts))
        place = (identity.namespace, step.label, identity.name, variants)
        names, worth = self._worths.get(place, (None, None))
        if worth is None or names != cohorts.keys():
            if len(self._worths) >= MOST:
                self._worths.clear()
            worth = Worth()
            self._worths[place] = frozenset(cohorts), worth
        return worth


def barred(request: Request, rule: RouteRule, said: SpeculationBody) -> Barred | None:
    """Find why a request must not go to pods that guess. None: it may."""
    asked = request.asked
    if said.mode == "Never":
        return "never"
    if not isinstance(asked, Generation):
        return "embeddings"
    if said.tool_calls == "Skip" and tools(asked):
        return "tools"
    if said.max_temperature is not None:
        settled = temperature(asked, rule.generation)
        if (USUAL_TEMPERATURE if settled is None else settled) > said.max_temperature:
            return "temperature"
    if said.max_input_tokens is not None and estimate_input(asked) > said.max_input_tokens:
        return "input"
    return None


def _preference(model: Model, listed: tuple[str, ...], *, guesses: bool) -> Preference:
    """List the cohorts of one kind that a target allows."""
    choices = [model.of_variant(variant) for variant in listed] if listed else [model.cohorts]
    return [
        {name: cohort for name, cohort in choice.items() if cohort.speculative is guesses}
        for choice in choices
    ]


def _variants(cohorts: Mapping[str, Cohort]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(cohort.variant for cohort in cohorts.values()))


def _whole(percent: float | None) -> int | None:
    return None if percent is None else round(percent)
